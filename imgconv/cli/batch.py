"""`imgconv batch`: many guests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgconv.cli import console, options
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.cli.text import one_line
from imgconv.emit import EMITTERS
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Bus, InitramfsMode, Names, Options

if TYPE_CHECKING:
    from imgconv.batch import events
    from imgconv.batch.ledger import Entry, Ledger
    from imgconv.batch.runner import Messages, Pool
    from imgconv.pipeline import Job

#: How `imgconv batch status` is called among the commands (cli.Group).
STATUS = "batch status"

_STYLES = {"done": ("✔ ", "bold green"), "failed": ("✘ ", "bold red"),
           "refused": ("! ", "bold yellow"), "not-proven": ("? ", "bold yellow"),
           "queued": ("· ", ""), "running": ("▸ ", "")}

LedgerOption = Annotated[Path | None, typer.Option(
    "--ledger", metavar="PATH", help="Where the states of all guests are kept (SQLite).",
    show_default="imgconv-batch.sqlite in the output's folder, else here")]
ReportOption = Annotated[Path | None, typer.Option(
    "--report", metavar="PATH", help="Write a page (HTML) about the batch.")]


def register(app: typer.Typer) -> None:
    app.command("batch", epilog=console.examples(
        "imgconv batch images/ --output-dir converted/ --report report.html",
        "imgconv batch fleet.csv -j 4 --json-lines",
        "imgconv batch images/ --dry-run --report survey.html",
        "imgconv batch --resume --output-dir converted/",
        "imgconv batch fleet.yaml --scheduler tcp://10.0.0.1:8786",
        "imgconv batch status"))(batch)
    app.command(STATUS, epilog=console.examples(
        "imgconv batch status", "imgconv batch status --ledger converted/imgconv-batch.sqlite",
        "imgconv batch status --report now.html"))(status)


def batch(
    paths: Annotated[list[str] | None, typer.Argument(
        metavar="[PATH...]", show_default=False,
        help="Disk images (each a guest of its own), descriptions (VMX, OVF, libvirt's XML), "
             "folders, patterns, or inventories (CSV, YAML; see docs/batch.md). --resume needs "
             "none.")] = None,
    jobs: Annotated[int | None, typer.Option(
        "-j", "--jobs", metavar="N", min=1, help="How many guests at once.",
        show_default="a processor and 1 GiB of memory each")] = None,
    output_dir: Annotated[Path | None, typer.Option(
        "--output-dir", metavar="DIR",
        help="Write converted copies there, as GUEST.FORMAT (several disks: into a folder GUEST).",
        show_default="in place")] = None,
    output_format: Annotated[str | None, typer.Option(
        "--format", metavar="FMT", help="The copies' format: qcow2, raw, vmdk, vhdx, vdi, vpc.",
        show_default="qcow2")] = None,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="A survey: what would be done, and what cannot be.")] = False,
    fail_fast: Annotated[bool, typer.Option(
        "--fail-fast", help="End with the first guest that is not converted.")] = False,
    retries: Annotated[int, typer.Option(
        "--retries", metavar="N", min=0, max=100,
        help="How often a guest that failed is tried again; what is refused or not proven is "
             "not.")] = 1,
    resume: Annotated[bool, typer.Option(
        "--resume", help="Continue a batch that was interrupted: what is done is not done again, "
                         "what failed is.")] = False,
    ledger: LedgerOption = None,
    report: ReportOption = None,
    json_lines: Annotated[bool, typer.Option(
        "--json-lines", help="Print what happens on stdout, one JSON document a line.")] = False,
    scheduler: Annotated[str | None, typer.Option(
        "--scheduler", metavar="tcp://HOST:8786",
        help="Have a Dask cluster do it: imgconv[cluster] on every host, on shared storage.")
    ] = None,
    tls_ca: Annotated[Path | None, typer.Option(
        "--tls-ca", metavar="FILE", help="The CA of a scheduler at tls://.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(
        "--tls-cert", metavar="FILE", help="The certificate for it.")] = None,
    tls_key: Annotated[Path | None, typer.Option(
        "--tls-key", metavar="FILE", help="The key of that certificate.")] = None,
    input_format: options.InputFormat = None,
    allow_external_files: options.AllowExternalFiles = False,
    initramfs: Annotated[InitramfsMode, typer.Option(
        "--initramfs", help="As in virtio-ize.")] = InitramfsMode.AUTO,
    names: options.NamesOption = Names.UUID,
    block: options.Block = "virtio-blk",
    drivers: options.Drivers = None,
    discard_hibernation: Annotated[bool, typer.Option(
        "--discard-hibernation", help="Give up the sessions of hibernated Windows.")] = False,
    emit: Annotated[list[str], typer.Option(
        "--emit", metavar="NAME", help="What to write besides the QEMU command: "
                                       + ", ".join(e.NAME for e in EMITTERS) + "; repeatable."
    )] = ["qemu"],  # noqa: B006  Typer copies it
    net: options.Net = "user", memory: options.Memory = None, cpus: options.Cpus = None,
    force: Annotated[bool, typer.Option(
        "--force", help="Replace outputs that exist already.")] = False,
    no_undo: Annotated[bool, typer.Option(
        "--no-undo", help="Keep nothing for imgconv undo.")] = False,
    state_dir: options.StateDir = None,
    boot_test: Annotated[bool, typer.Option(
        "--boot-test", help="Boot each result before anything is written.")] = False,
    timeout: options.BootTimeout = None,
    prepare: Annotated[bool, typer.Option(
        "--prepare", help="Prove that the guests boot from their old bus, too.")] = False,
    as_json: JsonOption = False, verbose: VerboseOption = False, log_file: LogFileOption = None,
) -> None:
    """Make many guests boot from virtio: each as virtio-ize does, none harmed by another.

    The status is 0 only if every guest succeeded. `imgconv batch status` shows how far it is.
    """
    from imgconv import pipeline
    from imgconv.batch import inventory
    from imgconv.batch import ledger as books

    if json_lines and as_json:
        raise UsageError("--json is one document, and --json-lines are many",
                         hint="leave one of them out")
    template = pipeline.Job(
        (), output_format=output_format, input_format=input_format,
        options=Options(names=names, block=Bus(block), initramfs=initramfs, drivers=drivers,
                        discard_hibernation=discard_hibernation),
        allow_external_files=allow_external_files, dry_run=dry_run, force=force, net=net,
        emit=tuple(dict.fromkeys(["qemu", *emit])), memory=memory, cpus=cpus, undo=not no_undo,
        state_dir=state_dir, boot_test=boot_test, boot_timeout=timeout, prepare=prepare)
    inventory.check_job(template)
    if not paths and not resume:
        raise UsageError("no guests were given", hint="give images, folders, patterns or an "
                                                      "inventory; or --resume an earlier batch")
    place = ledger or (output_dir or Path()) / (books.SURVEY if dry_run else books.NAME)
    work = inventory.tasks(paths, template, output_dir) if paths else []
    with ExitStack() as stack:
        book = stack.enter_context(books.held(place, resume=resume))
        book.add(work or book.tasks())
        pool, messages = _pool(stack, book, template, jobs, scheduler, (tls_ca, tls_cert, tls_key))
        tell = stack.enter_context(_shown(json_lines=json_lines, quiet=as_json))
        _run(book, pool, messages, tell, retries, fail_fast, report)
        found = list(book.entries(reports=as_json))
        if as_json:
            console.print_json(_document(book, found))
        else:
            _summary(found, book.path, report, dry_run=dry_run)
    if any(entry.state.value != "done" for entry in found):
        raise typer.Exit(ImgconvError.exit_code)


def _pool(stack: ExitStack, book: Ledger, template: Job, jobs: int | None,
          scheduler: str | None, tls: tuple[Path | None, Path | None, Path | None],
          ) -> tuple[Pool, Messages]:
    from imgconv.batch import runner

    if scheduler is None:
        if any(tls):
            raise UsageError("--tls-ca, --tls-cert and --tls-key are for --scheduler")
        count = jobs or runner.default_jobs(boot_test=template.boot_test, memory=template.memory)
        return stack.enter_context(runner.local(count, book.id))
    if jobs is not None:
        raise UsageError("-j is for this machine", hint="on a cluster, each worker says how many "
                         "at once: dask worker --resources appliance=N")
    from imgconv.batch import cluster

    return stack.enter_context(cluster.connected(scheduler, book.id, tls))


def _run(book: Ledger, pool: Pool, messages: Messages, tell: events.Listener, retries: int,
         fail_fast: bool, report: Path | None) -> None:
    """Run the batch; its page is written however it ends."""
    from imgconv.batch import runner

    try:
        runner.run(book, pool, messages, runner.Rules(retries, fail_fast), tell)
    finally:
        if report is not None:
            from imgconv.batch import report as pages

            pages.write(book, report)


def status(ledger: LedgerOption = None, report: ReportOption = None,
           as_json: JsonOption = False, verbose: VerboseOption = False,
           log_file: LogFileOption = None) -> None:
    """Show how far a batch is, from its ledger; it may be running."""
    from imgconv.batch import ledger as books
    from imgconv.batch import report as pages

    with books.looked_at(ledger or Path(books.NAME)) as (book, running):
        found = list(book.entries(reports=as_json))
        if report is not None:
            pages.write(book, report)
        if as_json:
            console.print_json(_document(book, found) | {"running": running})
            return
        for entry in found:
            _line(entry)
        counts = ", ".join(f"{count} {state}" for state, count in book.counts().items() if count)
        word = "running" if running else "ended" if book.ended else "interrupted: --resume"
        say(f"\n{len(found)} guests: {counts or 'none'} ({word})")


def _document(book: Ledger, found: list[Entry]) -> dict[str, Any]:
    return {"ledger": book.path, "batch": book.id, "counts": book.counts(), "guests": found}


# --- for people -----------------------------------------------------------------------------------


def _line(entry: Entry) -> None:
    mark, style = _STYLES[entry.state]
    took = f" ({entry.seconds:.0f} s)" if entry.seconds is not None else ""
    about = f": {one_line(entry.message)}" if entry.message and entry.state.is_end else ""
    say(f"{one_line(entry.name)} {entry.state}{about}{took}", label=mark, style=style)


def _summary(found: list[Entry], ledger: Path, report: Path | None, *, dry_run: bool) -> None:
    done = [entry for entry in found if entry.state.value == "done"]
    others = [entry for entry in found if entry.state.value != "done"]
    if others:
        say("")
    for entry in others:
        _line(entry)
        if entry.hint and entry.state.is_end:
            say(one_line(entry.hint), label="    hint: ", style="bold")
        if entry.log and entry.state.is_end:
            say(f"    log: {entry.log}")
    what = "can be converted" if dry_run else "done"
    mark, style = _STYLES["failed" if others else "done"]
    say(f"{len(done)} of {len(found)} guests {what}"
        + (f"; not: {', '.join(one_line(entry.name) for entry in others[:50])}" if others else "")
        + (", ..." if len(others) > 50 else ""), label=mark, style=style)
    if any(not entry.state.is_end for entry in found):
        say("go on with it:  the same command with --resume")
    say(f"ledger:  {ledger}" + (f"\nreport:  {report}" if report else ""))


@contextmanager
def _shown(*, json_lines: bool, quiet: bool) -> Iterator[events.Listener]:
    """Who is told what happens: a program, or people (at a terminal, with bars)."""
    from imgconv.batch import events

    if json_lines:
        yield lambda event: print(events.as_line(event), flush=True)
    elif quiet:
        yield lambda event: None
    else:
        bars = _Bars()
        try:
            yield bars.tell
        finally:
            bars.close()


class _Bars:
    """A tqdm line a worker, and one for all; a line of text for each guest that has ended."""

    def __init__(self) -> None:
        self._disabled = not sys.stderr.isatty()
        self._workers: dict[str, Any] = {}
        self._phases: dict[str, str] = {}
        self._total: Any = None

    def tell(self, event: events.Event) -> None:
        from imgconv.batch import events

        match event:
            case events.BatchBegun():
                many = f", {event.jobs} at once" if event.jobs else ""
                before = f" ({event.before} are done already)" if event.before else ""
                say(f"{event.guests} guests{before}{many}; ledger: {event.ledger}")
                self._total = self._bar(event.guests, "{desc} {bar} {n_fmt}/{total_fmt} "
                                        "[{elapsed}, {remaining} left]", 0)
                self._total.set_description_str("all guests".ljust(30))
            case events.GuestBegun():
                self._phases[event.worker] = ""
            case events.GuestPhase():
                self._phase(event)
            case events.GuestEnded():
                self._ended(event)
            case events.BatchEnded():
                self.close()
                if event.interrupted:
                    counts = ", ".join(f"{n} {state}" for state, n in event.counts.items() if n)
                    say(f"interrupted: {counts}; go on with the same command and --resume")

    def _bar(self, total: float, form: str, position: int) -> Any:  # noqa: ANN401 - tqdm[NoReturn]
        from tqdm import tqdm

        return tqdm(total=total, disable=self._disabled, leave=False, position=position,
                    bar_format=form, mininterval=0.2)

    def _phase(self, event: events.GuestPhase) -> None:
        from imgconv.cli.progress import WORDS
        from imgconv.pipeline import PHASES

        bar = self._workers.get(event.worker)
        if bar is None:
            bar = self._bar(float(len(PHASES)), "{desc} {bar} {percentage:3.0f}%",
                            len(self._workers) + 1)
            self._workers[event.worker] = bar
        words = WORDS.get(event.phase, event.phase)
        bar.set_description_str(f"{one_line(event.guest)[:24]:<24} {words:<24}", refresh=False)
        # A boot test is before the commit: its bar stands still meanwhile.
        known = event.phase if event.phase in PHASES else "commit"
        bar.n = PHASES.index(known) + (event.fraction if event.phase in PHASES else 0.0)
        if self._phases.get(event.worker) != event.phase or event.fraction >= 1:
            self._phases[event.worker] = event.phase
            bar.refresh()
            self._total.refresh()

    def _ended(self, event: events.GuestEnded) -> None:
        mark, style = _STYLES[event.state]
        about = f": {one_line(event.message)}" if event.message else ""
        again = "; again" if event.again else ""
        for bar in (self._total, *self._workers.values()):
            bar.clear()
        say(f"{one_line(event.guest)} {event.state}{about} ({event.seconds:.0f} s){again}",
            label=mark, style=style)
        if not event.again:
            self._total.update(1)
        self._total.refresh()

    def close(self) -> None:
        for bar in (*self._workers.values(), *([self._total] if self._total is not None else [])):
            bar.close()
        self._workers.clear()
