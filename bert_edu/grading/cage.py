"""Shuts the process that runs a student's code off from the rest of the machine, with what Linux offers.

`enter` closes, for this process and for good:

- the network: no socket can be made (seccomp);
- other processes: none can be started, read, or sent a signal (seccomp);
- writing: no file can be written, made, moved or deleted (seccomp);
- reading: only Python, its packages and the system's libraries can be read (Landlock, Linux 5.13 or later).

Seccomp's numbers are those of x86-64. `closed` says what the machine at hand can close. What stays open: the
processor and the memory, up to the limits of `bert_edu.exercises.sandbox`, and everything inside the process
itself, which has the whole package in its memory.
"""

import ctypes
import functools
import os
import platform
import struct
import sys
import tempfile
from pathlib import Path

NO_NEW_PRIVILEGES, SET_SECCOMP_FILTER, SYNCHRONISE_THREADS = 38, 1, 1
SECCOMP, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 317, 444, 445, 446  # system calls

# System calls by their number on x86-64 (linux/arch/x86/entry/syscalls/syscall_64.tbl).
FORBIDDEN = {
    "network": (41, 42, 49, 50, 53),  # socket, connect, bind, listen, socketpair
    "other processes": (
        *(57, 58, 59, 322),  # fork, vfork, execve, execveat
        *(62, 129, 200, 234, 297, 424),  # kill and its kin, pidfd_send_signal
        *(101, 310, 311, 434, 438, 440),  # ptrace, process_vm_*, pidfd_open, pidfd_getfd, process_madvise
    ),
    "files": (
        *(76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94),  # truncate, rename, mkdir ... lchown
        *(132, 133, 188, 189, 235, 258, 259, 260, 261, 263),  # utime, mknod, setxattr, mkdirat ... unlinkat
        *(264, 265, 266, 268, 280, 316, 452),  # renameat ... fchmodat, utimensat, renameat2, fchmodat2
    ),
    "the system": (
        *(155, 161, 165, 166, 167, 169, 246, 272, 308, 321),  # pivot_root, chroot, mount, unshare, setns, bpf
        *(248, 249, 250, 298, 323, 425, 426, 427),  # keys, perf_event_open, userfaultfd, io_uring
        *(428, 429, 430, 431, 432, 433, 442),  # the new way to mount
    ),
}
CLONE, OPEN, OPENAT, PRLIMIT = 56, 2, 257, 302
NOT_THERE = (435, 437)  # clone3 and openat2: their arguments cannot be seen; the C library then takes the old
THREAD = 0x10000  # the flag of clone that makes a thread and not a process
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0x400000  # the last: O_TMPFILE
X86_64, X32 = 0xC000003E, 0x40000000

READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
EVERYTHING = (1 << 13) - 1  # all kinds of access that Landlock's first version knows
READABLE_FILES = ("/dev/null", "/dev/urandom", "/etc/ld.so.cache", "/proc/cpuinfo", "/proc/meminfo")
READABLE_FOLDERS = ("/usr", "/lib", "/lib64", "/sys/devices/system/cpu", "/proc/self")


@functools.cache
def closed() -> tuple[str, ...]:
    """What `enter` can close on this machine: "network", "other processes", "writing", "reading"."""
    if sys.platform != "linux":
        return ()
    shut = ("network", "other processes", "writing") if platform.machine() == "x86_64" else ()
    return (*shut, "reading") if system_call(LANDLOCK_CREATE, None, 0, 1) > 0 else shut


@functools.cache
def enter():
    """Closes what can be closed, once. There is no way back.

    Raises:
        OSError: when the system refuses what `closed` promises.
    """
    if not closed():
        return
    tempfile.tempdir = "/tmp"  # some packages ask for it on import; Python would try to write there
    demand(library().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    if "reading" in closed():
        shut_reading()
    if "network" in closed():
        shut_calls()


@functools.cache
def library():
    return ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments) -> int:
    return library().syscall(number, *arguments)


def demand(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def shut_reading():
    """Allows reading below Python's own folders, the system's libraries and a few files, and nowhere else."""
    handled = struct.pack("Q", EVERYTHING)
    rules = demand(system_call(LANDLOCK_CREATE, handled, len(handled), 0))
    package = Path(__file__).parents[2]
    folders = {sys.prefix, sys.base_prefix, *READABLE_FOLDERS, *(package / "bert_edu", package / "results")}
    folders |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    for access, paths in ((READ_FILE | READ_FOLDER, folders), (READ_FILE, READABLE_FILES)):
        for path in filter(os.path.exists, paths):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", access, place)
            demand(system_call(LANDLOCK_ADD, rules, 1, rule, 0))
            os.close(place)
    demand(system_call(LANDLOCK_RESTRICT, rules, 0))
    os.close(rules)


def shut_calls():
    """Lets the forbidden system calls fail, in all threads of this process."""
    program = b"".join(filter_program())
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    demand(system_call(SECCOMP, SET_SECCOMP_FILTER, SYNCHRONISE_THREADS, header))


def filter_program():
    """The filter, as instructions of eight bytes for the kernel's packet-filter machine."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06  # its instructions
    allow, permission, absent = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS

    def step(kind, value, then=0, otherwise=0):
        return struct.pack("HBBI", kind, then, otherwise, value)

    yield step(load, 4)  # the processor's kind
    yield step(equal, X86_64, 1)
    yield step(give, permission)
    yield step(load, 0)  # the number of the system call
    yield step(at_least, X32, 0, 1)
    yield step(give, permission)
    for numbers, answer in ((sum(FORBIDDEN.values(), ()), permission), (NOT_THERE, absent)):
        for number in numbers:
            yield step(equal, number, 0, 1)
            yield step(give, answer)
    # These depend on an argument: where it stands in the call's record, and which bits decide.
    for number, place, bits, if_set, if_not in (
        (CLONE, 16, THREAD, allow, permission),
        (OPEN, 24, FOR_WRITING, permission, allow),
        (OPENAT, 32, FOR_WRITING, permission, allow),
        (PRLIMIT, 16, 0xFFFFFFFF, permission, allow),  # the limits of another process
    ):
        yield step(equal, number, 0, 4)
        yield step(load, place)
        yield step(any_bit, bits, 0, 1)
        yield step(give, if_set)
        yield step(give, if_not)
    yield step(give, allow)
