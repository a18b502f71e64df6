"""The filter of system calls: it refuses calls that no program under test needs and that escapes are made of.

Refused are: namespaces, mounts, tracing and the memory of other processes; kernel interfaces with a history of faults
(bpf, io_uring, keys, userfaultfd); memory that no limit counts (System V shared memory, memfd); sockets other than Unix
and Internet ones (AF_VSOCK of a virtual machine ignores network namespaces). Each fails with EPERM. `clone3` fails with
ENOSYS: its flags cannot be read by a filter, and C libraries then use `clone`. Format: struct sock_filter of
linux/filter.h.

Why not pyseccomp, which knows the numbers by name? It needs libseccomp at run time, which bubblewrap does not install,
its last release is 0.1.2, and it would save about twenty lines. The numbers here equal those of libseccomp 2.5.4.
"""

from __future__ import annotations

import errno
import platform
import struct

from heartstrings.core.errors import InputError

_NEW = [*range(425, 434), 438, 442, 447]
"""The same number on every processor: io_uring, the newer mount calls, pidfd_getfd, mount_setattr, memfd_secret."""
_MACHINES: dict[str, tuple[int, int, int, list[int]]] = {
    # audit number of the architecture, clone, socket, then the other refused calls
    "x86_64": (0xC000003E, 56, 41, [
        101, 310, 311, 272, 308, 165, 166, 155, 161, 248, 249, 250, 321, 298, 323, 319, 29, 68, 64, 303, 304,
        246, 320, 175, 313, 176, 135, 167, 168, 169, 179, 103, 312, 154, 172, 173,
    ]),
    "aarch64": (0xC00000B7, 220, 198, [
        117, 270, 271, 97, 268, 40, 39, 41, 51, 217, 218, 219, 280, 241, 282, 279, 194, 186, 190, 264, 265,
        104, 294, 105, 273, 106, 92, 224, 225, 142, 60, 116, 272,
    ]),
}  # fmt: skip
"""ptrace, process_vm_readv, process_vm_writev, unshare, setns, mount, umount2, pivot_root, chroot, add_key,
request_key, keyctl, bpf, perf_event_open, userfaultfd, memfd_create, shmget, msgget, semget, name_to_handle_at,
open_by_handle_at, kexec_load, kexec_file_load, init_module, finit_module, delete_module, personality, swapon,
swapoff, reboot, quotactl, syslog, kcmp; on x86 also modify_ldt, iopl, ioperm."""
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP, NEWNS and NEWTIME."""
_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def system_call_filter(machine: str = "") -> bytes:
    """The filter for this processor.

    Raises:
        InputError: the numbers of this processor's calls are not in the table.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise InputError(f"a processor of kind {machine!r}", "x86_64 or aarch64", "Run suites with code on one of them")
    audit, clone, socket, denied = _MACHINES[machine]
    no, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000),
        (_RETURN, 0, 0, no),  # x32 calls by other numbers
    ]
    for number in (*denied, *_NEW):
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, no)]
    lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, missing)]
    # Each of the next two parts ends with a return, since it has loaded an argument over the call number.
    lines += [(_EQUAL, 0, 4, clone), (_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), (_RETURN, 0, 0, no)]
    lines += [(_RETURN, 0, 0, _ALLOW)]
    lines += [(_EQUAL, 0, 2 + len(_FAMILIES), socket), (_LOAD, 0, 0, 16)]
    lines += [(_EQUAL, len(_FAMILIES) - place, 0, family) for place, family in enumerate(_FAMILIES)]
    lines += [(_RETURN, 0, 0, no), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
