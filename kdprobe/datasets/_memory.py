"""Is there room for the images?  Asked before anything is decoded, answered in bytes.

Room is the least of what the system calls available and what is left of this process's limit, where
a container or a scheduler has set one. Where neither can be read nothing is refused.
"""

from pathlib import Path

from kdprobe.errors import InputError

MEMINFO = Path("/proc/meminfo")
LIMITS = (  # most, used, statistics: control groups of version 2, then of version 1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
GROUPS = Path("/sys/fs/cgroup")


def require_room(wanted: int, what: str, remedy: str) -> None:
    """Raise InputError where `wanted` bytes for `what` are more than there are."""
    there = available()
    if there is not None and wanted > there:
        raise InputError(
            f"found {_gib(there)} of memory available; wanted {_gib(wanted)} for {what}: {remedy}"
        )


def available() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    found = [room for room in (_of_the_system(), _of_the_group()) if room is not None]
    return min(found, default=None)


def _of_the_system() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    facts = dict(line.partition(":")[::2] for line in lines)
    return int(facts["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in facts else None


def _of_the_group() -> int | None:
    for most, used, statistics in LIMITS:
        try:
            limit, taken = ((GROUPS / name).read_text().strip() for name in (most, used))
            facts = dict(x.split() for x in (GROUPS / statistics).read_text().splitlines())
        except (OSError, ValueError):
            continue
        given_back = int(facts.get("inactive_file", 0))  # cached files make way
        return int(limit) - int(taken) + given_back if limit.isdecimal() else None
    return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
