"""The second part of quickstart.sh --fleet: two pgfresh processes that share a Redis. Shows that what
one has fetched the other gives without asking PostgreSQL, and that what is written through one is
seen through the other. Ends with status 1 when it is not so.
"""
import argparse
import statistics
import sys
import time

from quickstart_app import connect, last, load_subjects, rows, table

DOCTORS = 50
WRITES = 20
READ = "SELECT * FROM doctors WHERE id = %s"
PLACES = {"l1": "its memory", "l2": "Redis"}


def wait_joined(url, seconds=20):
    """Until the proxy answers from memory, which it does not before it has joined the other."""
    connection = connect(url)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows(connection, "SELECT count(*) FROM clinics")
        if last(connection)["verdict"] == "hit":
            return connection
        time.sleep(0.05)
    raise SystemExit("the second pgfresh never answered from memory")


def where_from(connection, doctors):
    """Reads them all; how many answers came from where."""
    places = {}
    for doctor in doctors:
        rows(connection, READ, (doctor,))
        told = last(connection)
        place = PLACES.get(told["tier"], "PostgreSQL") if told["verdict"] == "hit" else "PostgreSQL"
        places[place] = places.get(place, 0) + 1
    return places


def delay_of_write(first, second, doctor):
    """A write through one, read through the other; its delay in milliseconds."""
    fee = "SELECT consultation_fee FROM doctors WHERE id = %s"
    old = rows(first, fee, (doctor,))[0][0]
    rows(second, fee, (doctor,))
    rows(first, "UPDATE doctors SET consultation_fee = consultation_fee + 1 WHERE id = %s", (doctor,))
    written = time.monotonic()
    while rows(second, fee, (doctor,))[0][0] != old + 1:
        if time.monotonic() - written > 1:
            raise SystemExit("a write through one is not seen through the other within a second")
    return (time.monotonic() - written) * 1000


def show_writes(first, second, doctors):
    delays = sorted(delay_of_write(first, second, doctor) for doctor in doctors)
    print(f"  {len(delays)} writes through one: seen through the other {statistics.median(delays):.1f} "
          f"ms after their end (median), {delays[-1]:.1f} ms at most; promised is 1 s.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--first", required=True, help="URL through the one that has been asked")
    parser.add_argument("--second", required=True, help="URL through the one that is new")
    parser.add_argument("--direct", required=True, help="URL of PostgreSQL")
    parser.add_argument("--restarted", action="store_true", help="the new one is a restarted one")
    options = parser.parse_args()
    doctors = load_subjects(options.direct)["doctor"][:DOCTORS]
    first = connect(options.first)
    where_from(first, doctors)
    second = wait_joined(options.second)
    places = where_from(second, doctors)
    again = where_from(second, doctors)
    what = "the restarted one" if options.restarted else "the new one"
    columns = sorted(set(places) | set(again))
    table([f"{len(doctors)} doctors through {what} came from", *columns],
          [["the first time", *(places.get(column, 0) for column in columns)],
           ["again", *(again.get(column, 0) for column in columns)]])
    if not options.restarted:
        show_writes(first, second, doctors[:WRITES])
    if places.get("Redis", 0) < len(doctors) / 2:
        print("  too few came from Redis", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
