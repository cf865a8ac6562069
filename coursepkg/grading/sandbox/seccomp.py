"""System calls that no notebook needs, refused by the kernel (seccomp-bpf, with the classic BPF of seccomp(2))."""

import ctypes
import errno
import struct

from coursepkg.grading.sandbox import system

#: By call: its number on x86_64 and on aarch64, where there is none None.
REFUSED = {
    "ptrace": (101, 117),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "memfd_create": (319, 279),  # memory that no look at a process's own would count
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
}
#: Where files are not the submission's own: changes that Landlock lets through. Who asks for one is told that it worked.
PRETENDED = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
_X32 = 0x40000000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def program(machine: str, alone: bool) -> bytes:
    """The filter: eight bytes an instruction. `alone`: whether network and files are the submission's own; where they
    are not, no socket can be made, not one to a service of this machine either.

    Every refused call fails with EPERM; clone3 with ENOSYS, whose flags a filter cannot read, so that the C library
    takes clone, which is refused only where it would make a user namespace.
    """
    column = list(ARCHITECTURE).index(machine)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the x32 calls would be another way to the same ones
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    for numbers in REFUSED.values():
        code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    code += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    code += [
        (_EQUAL, 0, 3, CLONE[column]),
        (_LOAD, 0, 0, _ARGUMENT),
        (_ANY_BIT, 0, 1, system.CLONE_NEWUSER),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if not alone:
        code += [(_EQUAL, 0, 1, SOCKET[column]), (_RETURN, 0, 0, _ERRNO | errno.EACCES)]
        for numbers in PRETENDED.values():
            if numbers[column] is not None:
                code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def apply(alone: bool) -> None:
    """Filter the calls of this process and its children, for good. Raises OSError."""
    if system.machine() not in ARCHITECTURE:
        raise OSError(errno.ENOSYS, f"no filter is known for {system.machine()}")
    instructions = program(system.machine(), alone)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filter_mode = 2
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    prog = _Program(len(instructions) // 8, ctypes.addressof(buffer))
    system.prctl(system.PR_SET_SECCOMP, filter_mode, ctypes.byref(prog))
