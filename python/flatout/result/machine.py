"""The types of what a result says of the machine: where threads ran, how they competed for CPUs, memory, time."""

from __future__ import annotations

from typing import Literal

import msgspec


class PlacementTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The target's processes on this host.

    `sockets` share its address; `cpus` are those on which one of its `threads` may run. `namespace`: whether it is in
    this process's network namespace ("same") or in another one of this host ("other"). `ended`: those of `pids` that
    ended during the run.
    """

    pids: list[int]
    command: str
    threads: int
    sockets: int
    cpus: list[int]
    namespace: Literal["same", "other"] = "same"
    ended: list[int] = []

    @property
    def name(self) -> str:
        """Its command and process, for texts."""
        where = " in another network namespace" if self.namespace == "other" else ""
        return f"{self.command or 'the target'} (process {self.pids[0]}{where})"

    @property
    def ended_text(self) -> str:
        """Which of its processes ended; empty where none did."""
        many = "es" if len(self.ended) > 1 else ""
        numbers = ", ".join(map(str, self.ended))
        return f"{self.command or 'the target'} (process{many} {numbers}) ended" if self.ended else ""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where the load threads ran, and why there.

    `target` is null where its processes are on another host, or cannot be read. `cpus` are those that load threads
    were kept on (empty: the scheduler's choice). `shared_cpus` are those of load threads on which the target may
    run as well; where there are any, load threads yield instead of spinning. `where` the target is: "here" on this
    host; in another network "namespace" of it; "elsewhere", as far as can be seen; "hidden" on this host, where its
    process cannot be seen; or on this host with "nobody" bound to the address.
    """

    target: PlacementTarget | None = None
    cpus: list[int] = []
    shared_cpus: list[int] = []
    why: str = ""
    where: Literal["here", "namespace", "elsewhere", "hidden", "nobody"] | None = None


class XdpLink(msgspec.Struct, frozen=True, kw_only=True):
    """How frames went by a driver, past the kernel's sockets.

    `mode`: who ran the program that steers replies; `transmit`: who sent, "live" frames or an AF_XDP socket. `carrier`
    is what the engine says of both, `ports` the first and the last local one of each source.
    """

    link: Literal["xdp"] = "xdp"
    interface: str
    kind: str
    mode: Literal["native", "generic"]
    transmit: Literal["live", "af_xdp"]
    queues: int
    next_hops: list[str]
    ports: list[int]
    carrier: str = ""


class TargetContention(msgspec.Struct, frozen=True, kw_only=True):
    """How the target's threads fared during a run, from the end of the warm-up until the last request was due.

    `cpu_s` on CPUs and `run_delay_s` waiting for one, over all threads; of the run's time `run_delay_share` is what the
    thread that waited most waited, and `busiest_share` what the busiest one ran. `busy_threads` ran for 2 % of it or
    more; `ended_threads` ended meanwhile.
    """

    cpu_s: float
    run_delay_s: float
    run_delay_share: float
    busiest_share: float
    busy_threads: int
    ended_threads: int = 0


class Contention(msgspec.Struct, frozen=True, kw_only=True):
    """How threads competed for CPUs during a run.

    Of the load threads: `run_delay_s`, the time for which they could run and waited for a CPU (null: this kernel
    does not count it), and `involuntary_switches`. Of this host: `steal_s`, the CPU time that the hypervisor gave
    to others, by CPU `busy_s`, the time in which it was not idle, and `softirq_s`, that in soft interrupts, and
    `others_s`, the CPU time that neither this process nor the target nor interrupts used (null: the target may be
    here and cannot be seen); all within `elapsed_s`, until the last request was due. `backlog_drops` are packets, not
    only this load's, for which this host's receive backlog was too full (net.core.netdev_max_backlog). `throttled_s` is
    the CPU time, over all CPUs, that a quota took from this process's control group, and `target_throttled_s` that of
    the target's group, where it is another one (null: it is not, or cannot be read). `target` is null where the
    target's threads cannot be read.
    """

    run_delay_s: float | None
    involuntary_switches: int
    threads: int
    steal_s: float | None = None
    softirq_s: dict[str, float] = {}
    busy_s: dict[str, float] = {}
    others_s: float | None = None
    elapsed_s: float = 0.0
    backlog_drops: int | None = None
    throttled_s: float | None = None
    target_throttled_s: float | None = None
    target: TargetContention | None = None

    @property
    def throttled_text(self) -> str:
        """That a CPU quota held threads up, in words; empty where none did."""
        if not self.throttled_s:
            return ""
        return f"a CPU quota took {self.throttled_s:.2g} s of CPU time from this process's control group (cpu.max)"


class Subintervals(msgspec.Struct, frozen=True):
    """The counted time of a run in parts of `length_s`: what was due in each, whenever it was answered.

    `slow` are answers later after due than the goal for p99; 0 without one. `lateness_max_ns` is the generator's.
    `target_waited_ns` is the longest that a thread of the target waited for a CPU; 0 where none can be read.
    """

    length_s: float
    sent: list[int]
    unsent: list[int]
    answered: list[int]
    slow: list[int]
    lateness_max_ns: list[int]
    target_waited_ns: list[int] = []


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes: the process's peak resident set, the engine's request slots, and what one connection (flow) costs."""

    peak_rss: int
    slots: int
    per_connection: int
