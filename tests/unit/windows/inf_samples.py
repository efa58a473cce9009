"""INF files in the style of virtio-win's, each as short as what it shows allows."""

from __future__ import annotations

from imgconv.windows.versions import WindowsVersion

XP = WindowsVersion(5, 1, 2600, "x86", service_pack=3)
SEVEN_X86 = WindowsVersion(6, 1, 7601, "x86", service_pack=1)
SEVEN = WindowsVersion(6, 1, 7601, "amd64", service_pack=1)
EIGHT = WindowsVersion(6, 2, 9200, "amd64")
EIGHT_ONE = WindowsVersion(6, 3, 9600, "amd64")
TEN_1607 = WindowsVersion(10, 0, 14393, "amd64")
TEN = WindowsVersion(10, 0, 19045, "amd64")
TEN_X86 = WindowsVersion(10, 0, 19045, "x86")
ELEVEN_ARM = WindowsVersion(10, 0, 22631, "arm64")
SERVER_2008_R2 = WindowsVersion(6, 1, 7601, "amd64", server=True)
SERVER_2012 = WindowsVersion(6, 2, 9200, "amd64", server=True)
SERVER_2012_R2 = WindowsVersion(6, 3, 9600, "amd64", server=True)
SERVER_2016 = WindowsVersion(10, 0, 14393, "amd64", server=True)
SERVER_2022 = WindowsVersion(10, 0, 20348, "amd64", server=True)

#: The storage driver as it is today: from the driver store on, and for two ages of Windows 10.
STORAGE = r"""
[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGUID={4D36E97B-E325-11CE-BFC1-08002BE10318}
Provider=%VENDOR%
DriverVer=02/14/2024,100.95.104.26200
CatalogFile=viostor.cat
PnpLockdown=1

[SourceDisksNames]
1 = %DiskId1%,,,""
[SourceDisksFiles]
viostor.sys = 1,,

[DestinationDirs]
viostor_Files_Driver = 13

[Manufacturer]
%VENDOR% = VirtioStor,NTamd64.10.0...16299,NTarm64.10.0...22000

[VirtioStor.NTamd64.10.0...16299]
%Stor.Desc% = stor_inst, PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\VEN_1AF4&DEV_1001
%Stor.Desc% = stor_inst, PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01, PCI\VEN_1AF4&DEV_1042
[VirtioStor.NTarm64.10.0...22000]
%Stor.Desc% = stor_inst, PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01

[viostor_Files_Driver]
viostor.sys,,,2
[stor_inst]
CopyFiles=viostor_Files_Driver
[stor_inst.Services]
AddService = viostor, 0x00000002 , stor_Service_Inst, stor_EventLog_Inst
[stor_inst.HW]
AddReg = pnpsafe_pci_addreg_msix

[stor_Service_Inst]
DisplayName    = %Stor.Service%
ServiceType    = %SERVICE_KERNEL_DRIVER%
StartType      = %SERVICE_BOOT_START%
ErrorControl   = %SERVICE_ERROR_NORMAL%
ServiceBinary  = %13%\viostor.sys
LoadOrderGroup = SCSI miniport
AddReg         = pnpsafe_pci_addreg
[stor_EventLog_Inst]
AddReg = stor_EventLog_AddReg
[stor_EventLog_AddReg]
HKR,,EventMessageFile,%REG_EXPAND_SZ%,"%%SystemRoot%%\System32\IoLogMsg.dll"
[pnpsafe_pci_addreg]
HKR, "Parameters\PnpInterface", "5", %REG_DWORD%, 0x00000001
HKR, "Parameters", "BusType", %REG_DWORD%, 0x00000001
[pnpsafe_pci_addreg_msix]
HKR, "Interrupt Management",, 0x00000010
HKR, "Interrupt Management\Affinity Policy", GroupPolicy, 0x00010001, 1

[Strings]
VENDOR = "Red Hat, Inc."
diskId1 = "Disk"
Stor.Desc = "Red Hat VirtIO SCSI controller"
Stor.Service = "Red Hat VirtIO SCSI Service"
REG_EXPAND_SZ  = 0x00020000
REG_DWORD      = 0x00010001
SERVICE_KERNEL_DRIVER  = 1
SERVICE_BOOT_START     = 0
SERVICE_ERROR_NORMAL   = 1
"""

#: KMDF: ".NT" sections, a co-installer, and a service that is a program.
BALLOON = r"""
[Version]
Signature="$WINDOWS NT$"
Class=System
ClassGuid={4d36e97d-e325-11ce-bfc1-08002be10318}
Provider=%VENDOR%
DriverVer=07/19/2017,61.74.104.14100
CatalogFile.NTamd64=Balloon64.cat
CatalogFile=Balloon.cat
[DestinationDirs]
DefaultDestDir = 12
BALLOON_Device_CoInstaller_CopyFiles = 11
Service_Files = 11
[SourceDisksNames]
1 = %DiskId1%,,,""
[SourceDisksFiles]
balloon.sys = 1,,
blnsvr.exe = 1
[SourceDisksFiles.amd64]
WdfCoInstaller01009.dll=1 ; the number
[Manufacturer]
%VENDOR%=Standard,NTx86,NTamd64
[Standard.NTx86]
[Standard.NTamd64]
%Desc%=BALLOON_Device, PCI\VEN_1AF4&DEV_1002&SUBSYS_00051AF4&REV_00, PCI\VEN_1AF4&DEV_1002
[BALLOON_Device]
DelReg=Old
[BALLOON_Device.NT]
CopyFiles=@balloon.sys,Service_Files
[Service_Files]
balloon_service.exe,blnsvr.exe
[BALLOON_Device.NT.Services]
AddService = BALLOON,%ASSOC%, BALLOON_Service_Inst
AddService = BalloonService,,Program_Inst
[BALLOON_Service_Inst]
DisplayName    = %Desc%
ServiceType    = 1               ; SERVICE_KERNEL_DRIVER
StartType      = 3               ; SERVICE_DEMAND_START
ErrorControl   = 1
ServiceBinary  = %12%\balloon.sys
[Program_Inst]
ServiceType    = 0x10
StartType      = 2
ErrorControl   = 0x1
Description    = "Gives memory back; %Desc%"
Dependencies   = RpcSs, +TDI
ServiceBinary  = "%11%\balloon_service.exe"
Security       = "D:P(A;;GA;;;SY)"
[BALLOON_Device.NT.CoInstallers]
AddReg=CoInstaller_AddReg
CopyFiles=BALLOON_Device_CoInstaller_CopyFiles
[CoInstaller_AddReg]
HKR,,CoInstallers32,0x00010000, "WdfCoInstaller01009.dll,WdfCoInstaller"
[BALLOON_Device_CoInstaller_CopyFiles]
WdfCoInstaller01009.dll
[BALLOON_Device.NT.Wdf]
KmdfService = BALLOON, BALLOON_wdfsect
[Strings]
ASSOC= 0x00000002
VENDOR = "Red Hat, Inc."
DiskId1 = "Disk #1"
Desc = "VirtIO Balloon Driver"
"""

#: What is borrowed from other INFs, and what of it is one's own.
INPUT = r"""
[Version]
Signature="$CHICAGO$"
Class=HIDClass
ClassGuid={745a17a0-74d3-11d0-b6fe-00a0c90f57da}
Provider=%V%
DriverVer=1/2/2021
[DestinationDirs]
DefaultDestDir = 13
[Manufacturer]
%V%=VirtioInput,NTamd64.6.1
[VirtioInput.NTamd64.6.1]
"Virtio input"=Device, PCI\VEN_1AF4&DEV_1052&SUBSYS_11001AF4&REV_01
"Helper"=Child, VIOINPUT\REV_01
"Pass-through"=Passthrough, PCI\VEN_1AF4&DEV_1052&SUBSYS_11001AF4&REV_02
[Device.NT]
Include=machine.inf
Needs=PciIoSpaceNotRequired, Common
Needs=PciD3ColdSupported
CopyFiles=@vioinput.sys
[Common]
AddReg=Common_AddReg
[Common_AddReg]
HKR,,Own,0x00010001,1
[Device.NT.Services]
AddService = VirtioInput, 2, Service_Inst
[Child.NT]
CopyFiles=@viohidkmdf.sys
[Child.NT.Services]
Include=input.inf
Needs=HID_Inst.Services
AddService = ,2
[Passthrough.NT]
Include=input.inf
Needs=HID_Inst.NT
[Service_Inst]
ServiceType    = 1
StartType      = 3
ErrorControl   = 0
ServiceBinary  = %13%\vioinput.sys
[Strings]
V = "Red Hat, Inc."
"""

#: The smallest INF that installs something, to put sections into.
MINIMAL = r"""
[Version]
Signature="$Windows NT$"
Class=System
ClassGuid={4d36e97d-e325-11ce-bfc1-08002be10318}
Provider=Us
DriverVer=01/31/2020,1.2.3.4
[Manufacturer]
Us=Models,NTx86,NTamd64,NTarm64
[Models.NTx86]
"Thing"=thing,PCI\X86
[Models.NTamd64]
"Thing"=thing,PCI\AMD64
[Models.NTarm64]
"Thing"=thing,PCI\ARM64
[thing]
"""
