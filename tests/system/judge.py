"""Was every read right? The judge of freshness.md, "How to judge a run".

Rows come in pairs that share a version: one writer per pair, versions increase, and one
transaction writes both rows of a pair. Writers and readers keep a log on one clock
(CLOCK_MONOTONIC, the same for all processes of a machine); the judge reads the logs afterwards and
trusts nobody. A read on [s, e] that returned version v is right iff

  * v was begun before e, and was not rolled back;
  * no later version was acknowledged through pgfresh before s              (promise P1);
  * no later version was acknowledged, by whatever way, before s − Δ        (promise P2);
  * both rows of a pair seen in one answer have the same version            (promise P3).

An attempt whose outcome nobody knows (connection lost) may be seen and need not be.
Not judged: that answers come from memory at all. The caller must assert hits and `Coverage`.
"""
import bisect
import collections
import dataclasses

COMMITTED, ABORTED, UNKNOWN = "committed", "aborted", "unknown"
INFINITE = float("inf")

# One attempt to write both rows of a pair. Times in nanoseconds. proxied: by way of pgfresh.
Write = collections.namedtuple("Write", "pair version proxied began acked outcome shape")
# One answer: values is a tuple of (row, version); a row is (table, id), its pair (table, id // 2).
Read = collections.namedtuple("Read", "reader shape started ended values")
Violation = collections.namedtuple("Violation", "kind text")


def pair_of(row):
    table, number = row
    return table, number // 2


@dataclasses.dataclass
class Coverage:
    """How often a run has met the situations it is about. A counter at 0 proves nothing."""
    reads: int = 0
    writes_proxied: int = 0
    writes_direct: int = 0
    writes_aborted: int = 0
    overlapping: int = 0           # reads while their pair was being written
    soon_after_proxied: int = 0    # reads begun within 2 ms after an acknowledgement via pgfresh
    soon_after_direct: int = 0     # … within Δ after a direct one
    both_of_pair: int = 0          # answers that hold both rows of a pair
    several_tables: int = 0

    def empty(self):
        return [field for field, count in dataclasses.asdict(self).items() if count == 0]


class PairHistory:
    """All attempts on one pair, ready to be asked about versions."""

    def __init__(self, writes):
        self.writes = {write.version: write for write in writes}
        assert len(self.writes) == len(writes), "a version was written twice"
        committed = sorted((w for w in writes if w.outcome == COMMITTED), key=lambda w: w.version)
        acks = [w.acked for w in committed]
        assert acks == sorted(acks), "a pair has more than one writer"
        self.any_versions = [w.version for w in committed]
        self.any_acks = acks
        self.proxied_versions = [w.version for w in committed if w.proxied]
        self.proxied_acks = [w.acked for w in committed if w.proxied]
        self.spans = sorted((w.began, min(w.acked, w.began + 10**9)) for w in writes)
        self.began = [span[0] for span in self.spans]

    @staticmethod
    def _first_after(versions, acks, version):
        at = bisect.bisect_right(versions, version)
        return (versions[at], acks[at]) if at < len(versions) else (None, INFINITE)

    def judge(self, version, started, ended, staleness_ns):
        """None, or (kind, text)."""
        if version != 0:  # version 0 was there before everything
            write = self.writes.get(version)
            if write is None:
                return "P3", f"version {version} was never written"
            if write.outcome == ABORTED:
                return "P3", f"version {version} was rolled back ({write.shape})"
            if write.began > ended:
                return "P3", f"version {version} was begun after the read had ended"
        later, acked = self._first_after(self.proxied_versions, self.proxied_acks, version)
        if acked < started:
            return "P1", (f"version {version}, but {later} ({self.writes[later].shape}) was "
                          f"acknowledged through pgfresh {(started - acked) / 1e6:.3f} ms before")
        later, acked = self._first_after(self.any_versions, self.any_acks, version)
        if acked < started - staleness_ns:
            return "P2", (f"version {version}, but {later} ({self.writes[later].shape}) was "
                          f"acknowledged {(started - acked) / 1e6:.1f} ms before")
        return None

    def being_written(self, started, ended):
        at = bisect.bisect_right(self.began, ended) - 1
        return at >= 0 and self.spans[at][1] >= started

    def last_ack(self, acks, moment):
        at = bisect.bisect_left(acks, moment) - 1
        return acks[at] if at >= 0 else -INFINITE

    def newest(self):
        return self.any_versions[-1] if self.any_versions else 0

    def maybe_newest(self):
        """Versions the pair may hold after all is quiet."""
        newest = self.newest()
        return {newest} | {w.version for w in self.writes.values()
                           if w.outcome == UNKNOWN and w.version > newest}


class Judge:
    def __init__(self, writes, staleness_s):
        self.staleness_ns = int(staleness_s * 1e9)
        by_pair = collections.defaultdict(list)
        for write in writes:
            by_pair[write.pair].append(write)
        self.histories = {pair: PairHistory(of_pair) for pair, of_pair in by_pair.items()}
        self.nothing = PairHistory([])
        self.coverage = Coverage()
        for write in writes:
            self.coverage.writes_aborted += write.outcome == ABORTED
            self.coverage.writes_proxied += write.outcome == COMMITTED and write.proxied
            self.coverage.writes_direct += write.outcome == COMMITTED and not write.proxied

    def history(self, pair):
        return self.histories.get(pair, self.nothing)

    def reads(self, reads):
        """Violations among the reads."""
        found = []
        for read in reads:
            found += self._read(read)
            self._cover(read)
        return found

    def _read(self, read):
        found = []
        seen = {}
        for row, version in read.values:
            pair = pair_of(row)
            wrong = self.history(pair).judge(version, read.started, read.ended, self.staleness_ns)
            if wrong:
                found.append(Violation(wrong[0], f"{read.reader}/{read.shape} row {row}: {wrong[1]}"))
            if seen.setdefault(pair, version) != version:
                found.append(Violation("P3", f"{read.reader}/{read.shape} pair {pair}: versions "
                                             f"{seen[pair]} and {version} in one answer"))
        return found

    def _cover(self, read):
        coverage = self.coverage
        coverage.reads += 1
        pairs = {pair_of(row) for row, _ in read.values}
        histories = [self.history(pair) for pair in pairs]
        coverage.both_of_pair += len({row for row, _ in read.values}) > len(pairs)
        coverage.several_tables += len({table for table, _ in pairs}) > 1
        coverage.overlapping += any(h.being_written(read.started, read.ended) for h in histories)
        coverage.soon_after_proxied += any(
            read.started - h.last_ack(h.proxied_acks, read.started) < 2e6 for h in histories)
        coverage.soon_after_direct += any(
            read.started - h.last_ack(h.any_acks, read.started) < self.staleness_ns
            and h.last_ack(h.any_acks, read.started) > h.last_ack(h.proxied_acks, read.started)
            for h in histories)

    def final(self, values):
        """Violations among the rows as they are read when everything is quiet."""
        return [Violation("final", f"row {row} is {version}, expected one of "
                                   f"{sorted(self.history(pair_of(row)).maybe_newest())}")
                for row, version in values
                if version not in self.history(pair_of(row)).maybe_newest()]
