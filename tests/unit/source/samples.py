"""Descriptions as hypervisors write them, cut down to what a machine is made of, and archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence

WORKSTATION = '''#!/usr/bin/vmware
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "19"
displayName = "Büro |22alt|22"
guestOS = "debian11-64"
memsize = "4096"
numvcpus = "4"
cpuid.coresPerSocket = "2"
firmware = "efi"
uefi.secureBoot.enabled = "TRUE"
managedVM.autoAddVTPM = "software"
scsi0.virtualDev = "lsilogic"
scsi0.present = "TRUE"
scsi0:1.fileName = "büro-1.vmdk"
scsi0:1.present = "TRUE"
scsi0:0.fileName = "büro.vmdk"
scsi0:0.present = "TRUE"
sata0.present = "TRUE"
sata0:1.deviceType = "cdrom-image"
sata0:1.fileName = "/isos/debian-11.iso"
sata0:1.present = "TRUE"
nvme0.present = "TRUE"
nvme0:0.fileName = "fast.vmdk"
nvme0:0.present = "TRUE"
ethernet0.connectionType = "nat"
ethernet0.addressType = "generated"
ethernet0.virtualDev = "e1000e"
ethernet0.present = "TRUE"
ethernet0.generatedAddress = "00:0C:29:1A:2B:3C"
ethernet0.generatedAddressOffset = "0"
ethernet1.present = "FALSE"
ethernet1.virtualDev = "e1000"
floppy0.present = "FALSE"
'''

ESXI = '''.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "14"
nvram = "db01.nvram"
svga.present = "TRUE"
displayName = "db01"
guestOS = "windows9srv-64"
memSize = "16384"
numvcpus = "2"
bios.bootOrder = "hdd,cdrom"
bios.hddOrder = "scsi1:0"
scsi0.virtualDev = "pvscsi"
scsi0.present = "TRUE"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:0.fileName = "db01.vmdk"
scsi0:0.present = "TRUE"
scsi1.present = "TRUE"
scsi1:0.deviceType = "scsi-hardDisk"
scsi1:0.fileName = "db01_1.vmdk"
scsi1:0.present = "TRUE"
scsi2.present = "FALSE"
scsi2:0.fileName = "unplugged.vmdk"
scsi2:0.present = "TRUE"
ide0:0.deviceType = "atapi-cdrom"
ide0:0.fileName = "emptyBackingString"
ide0:0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "vpx"
ethernet0.generatedAddress = "00:50:56:b0:12:34"
ethernet0.present = "TRUE"
ethernet10.virtualDev = "vmxnet3"
ethernet10.addressType = "static"
ethernet10.address = "00:50:56:00:00:10"
ethernet10.generatedAddress = "00:50:56:99:99:99"
ethernet10.present = "TRUE"
ethernet2.addressType = "generated"
ethernet2.present = "TRUE"
'''

LIBVIRT = '''<?xml version='1.0'?>
<!--
WARNING: THIS IS AN AUTO-GENERATED FILE.
-->
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://microsoft.com/win/11"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='KiB'>4194304</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='3'>8</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <firmware>
      <feature enabled='yes' name='enrolled-keys'/>
      <feature enabled='yes' name='secure-boot'/>
    </firmware>
    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='web-data.qcow2'/>
      <target dev='sdb' bus='sata'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source dev='/dev/vg/web'/>
      <target dev='sdc' bus='sata'/>
      <boot order='1'/>
    </disk>
    <disk type='file' device='disk'>
      <source file='web.img'/>
      <target dev='sda' bus='sata'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/isos/virtio-win.iso'/>
      <target dev='sdd' bus='sata'/>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='pool/image'/>
      <target dev='sde' bus='sata'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:AA:bb:01'/>
      <source network='default'/>
      <model type='e1000e'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:aa:bb:02'/>
      <source bridge='br0'/>
      <model type='virtio'/>
    </interface>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>
'''

_RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"


def item(kind: int, instance: str, more: str = "", attributes: str = "") -> str:
    return (f"<Item {attributes}><rasd:InstanceID>{instance}</rasd:InstanceID>"
            f"<rasd:ResourceType>{kind}</rasd:ResourceType>{more}</Item>\n")


def rasd(**fields: object) -> str:
    return "".join(f"<rasd:{name}>{value}</rasd:{name}>" for name, value in fields.items())


def envelope(items: str, files: str, disks: str, *, after: str = "", version: int = 1,
             before: str = "") -> str:
    return f'''<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-1" xmlns="http://schemas.dmtf.org/ovf/envelope/{version}"
    xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/{version}" xmlns:rasd="{_RASD}"
    xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>{files}</References>
  <DiskSection><Info>Virtual disks</Info>{disks}</DiskSection>{before}
  <VirtualSystem ovf:id="vm"><Info>A machine</Info><Name>mail</Name>
    <OperatingSystemSection ovf:id="96"><Info>The OS</Info><Description>Debian_64</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><rasd:InstanceID>0</rasd:InstanceID></System>
      {items}
      {after}
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
'''


_VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def disk(number: int, *, fmt: str = _VMDK, file: bool = True) -> str:
    reference = f'ovf:fileRef="file{number}"' if file else ""
    return f'<Disk ovf:capacity="2" ovf:diskId="vmdisk{number}" {reference} ovf:format="{fmt}"/>'


def file_entry(number: int, href: str, more: str = "") -> str:
    return f'<File ovf:href="{href}" ovf:id="file{number}" {more}/>'


VSPHERE = envelope(
    item(3, "1", rasd(AllocationUnits="hertz * 10^6", VirtualQuantity=4)
         + "<vmw:CoresPerSocket>2</vmw:CoresPerSocket>")
    + item(4, "2", rasd(AllocationUnits="byte * 2^20", VirtualQuantity=8192))
    + item(5, "4", rasd(Address=0)) + item(6, "3", rasd(Address=0, ResourceSubType="VirtualSCSI"))
    + item(17, "9", rasd(AddressOnParent=0, HostResource="ovf:/disk/vmdisk3", Parent=4))
    + item(17, "8", rasd(AddressOnParent=1, HostResource="ovf:/disk/vmdisk2", Parent=3))
    + item(17, "7", rasd(AddressOnParent=0, HostResource="ovf:/disk/vmdisk1", Parent=3))
    + item(15, "6", rasd(AddressOnParent=0, ResourceSubType="vmware.cdrom.iso"))
    + item(10, "10", rasd(Address="00:50:56:AB:cd:01", ResourceSubType="VmxNet3"))
    + item(1, "13", rasd(ResourceSubType="vmware.vtpm")),
    file_entry(1, "mail-1.vmdk") + file_entry(2, "mail%202.vmdk"),
    disk(1) + disk(2) + disk(3, file=False),
    after='<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>'
          '<vmw:Config vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>')

VIRTUALBOX = envelope(
    item(3, "1", rasd(VirtualQuantity=2))
    + item(4, "2", rasd(AllocationUnits="MegaBytes", VirtualQuantity=1024))
    + item(20, "5", rasd(Address=0, ResourceSubType="AHCI"))
    + '<StorageItem xmlns:sasd="urn:s"><sasd:InstanceID>9</sasd:InstanceID>'
      "<sasd:ResourceType>17</sasd:ResourceType><sasd:HostResource>/disk/vmdisk1"
      "</sasd:HostResource><sasd:Parent>5</sasd:Parent></StorageItem>"
    + '<EthernetPortItem xmlns:epasd="urn:e"><epasd:InstanceID>7</epasd:InstanceID>'
      "<epasd:ResourceType>10</epasd:ResourceType><epasd:ResourceSubType>E1000"
      "</epasd:ResourceSubType></EthernetPortItem>",
    file_entry(1, "box.vmdk"), disk(1), version=2).replace("</VirtualHardwareSection>", '''
    </VirtualHardwareSection>
    <vbox:Machine version="1.19-linux" name="box">
      <Hardware><Firmware type="EFI"/>
        <BIOS><TrustedPlatformModule type="v2_0" location=""/></BIOS>
        <Network>
          <Adapter slot="0" enabled="true" MACAddress="080027C0FFEE" type="82540EM"/>
          <Adapter slot="1" enabled="false"/>
        </Network>
      </Hardware>
    </vbox:Machine>''')

#: One SCSI disk in the file disk.vmdk.
PLAIN = envelope(item(3, "1", rasd(VirtualQuantity=1)) + item(4, "2", rasd(VirtualQuantity=512))
                 + item(6, "3") + item(17, "4", rasd(HostResource="ovf:/disk/vmdisk1", Parent=3)),
                 file_entry(1, "disk.vmdk"), disk(1))


def archive(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]],
            fmt: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of these files, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def manifest(files: Mapping[str, bytes], algorithm: str = "SHA256") -> bytes:
    return "".join(f"{algorithm}({name})= {hashlib.new(algorithm.lower(), content).hexdigest()}\n"
                   for name, content in files.items()).encode()


def appliance(disk_content: bytes = b"disk" * 1000, ovf: str = PLAIN) -> dict[str, bytes]:
    """The files of an OVA with a manifest."""
    files = {"guest.ovf": ovf.encode(), "disk.vmdk": disk_content}
    return {"guest.ovf": files["guest.ovf"], "guest.mf": manifest(files),
            "disk.vmdk": disk_content}
