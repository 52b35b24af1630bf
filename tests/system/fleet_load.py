"""The judge's load for a fleet: a writer and two readers for each proxy, and a writer past all of
them. Writers leave readers time, whatever the machine is at. Who judges is test_fleet.py."""
import functools
import itertools
import time

import judge_load

WRITE_PAUSE_S = 0.1  # each writer's
# Each write ends some ten answers, in three forms each. A busy machine that reads less than this at
# each proxy between two writes would have few hits, which says nothing of the fleet.
READS_A_WRITE = 25


class FleetWriter(judge_load.Writer):
    """Writes through one proxy, and past all; `proxied` of its log is the proxy's place + 1. It
    leaves the readers time, but goes on after a second whatever they do. `counts`: see crew()."""

    place = 0
    counts = ()
    stop = None

    def once(self):
        super().once()
        enough = [count + READS_A_WRITE * self.load.writers for count in self.counted()]
        deadline = time.monotonic() + 1
        while (any(count < aim for count, aim in zip(self.counted(), enough))
               and time.monotonic() < deadline and not self.stop.is_set()):
            time.sleep(0.02)

    def counted(self):
        """Reads at each proxy; two readers share one."""
        return [sum(pair) for pair in zip(self.counts[::2], self.counts[1::2])]

    def run(self, stop):
        self.stop = stop
        writes, reads, violations = super().run(stop)
        named = [write._replace(proxied=self.place + 1 if write.proxied else 0)
                 for write in writes]
        return named, reads, violations


def fleet_writer(load, place, index, counts, _load, _index):
    made = FleetWriter(load, index)
    made.place = place
    made.counts = counts
    made.name += f"@{place}"
    return made


def fleet_reader(kind, load, place, counts, number, _load, index):
    made = kind(load, index)
    made.name += f"@{place}"
    note = made.note

    def counted(*read):
        note(*read)
        counts[number] += 1

    made.note = counted
    return made


def crew(fleet, directory, seconds):
    """The load, and its makers in the form judge_load.running() takes readers: a writer and two
    readers for each proxy, and a writer past all of them. Each reader counts its reads where the
    writers see it: readers 2n and 2n + 1 are those of proxy n."""
    size = len(fleet.proxies)
    writers = size + 1
    loads = [judge_load.Load(fleet.url(place), fleet.direct_url(), directory, writers=writers,
                             seconds=seconds, write_pause_s=WRITE_PAUSE_S)
             for place in range(size)]

    kinds = itertools.cycle(judge_load.READERS)
    counts = judge_load.CONTEXT.RawArray("q", 2 * size)
    makers = [functools.partial(fleet_writer, loads[index % size], index % size, index, counts)
              for index in range(writers)]
    for number in range(2 * size):
        place = number // 2
        makers.append(functools.partial(fleet_reader, next(kinds), loads[place], place, counts,
                                        number))
    nobody = judge_load.Load("", "", directory, writers=0, seconds=seconds)
    return nobody, makers
