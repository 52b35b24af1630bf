"""The application of quickstart.sh: reads and writes the healthcare schema, first directly, then
through pgfresh, and prints what each cost, that writes are seen at once, and what was cached.

Readers are processes with one connection each, in autocommit, as a web application's workers. One
writer changes a consultation fee and reads it back over another connection at once; what it reads
must be what it wrote. Ends with status 1 when it is not, or when nothing was ever cached.
"""
import argparse
import multiprocessing
import random
import sys
import time
import urllib.error
import urllib.request

import psycopg2

READERS = 4
WRITES_PER_SECOND = 10

# What is read, and how often of a hundred times. Values come from the tables themselves.
READS = (
    (40, "one doctor", "SELECT * FROM doctors WHERE id = %(doctor)s"),
    (20, "best of a specialization",
     "SELECT d.id, u.full_name, d.rating, d.consultation_fee FROM doctors d "
     "JOIN users u ON u.id = d.user_id WHERE d.specialization = %(specialization)s "
     "AND d.is_verified ORDER BY d.rating DESC, d.id LIMIT 20"),
    (15, "a doctor's clinics",
     "SELECT c.* FROM clinics c JOIN doctor_clinics dc ON dc.clinic_id = c.id "
     "WHERE dc.doctor_id = %(doctor)s ORDER BY c.name"),
    (15, "a patient's appointments",
     "SELECT * FROM appointments WHERE patient_id = %(patient)s AND deleted_at IS NULL "
     "ORDER BY appointment_at DESC LIMIT 20"),
    (8, "a doctor's open slots",
     "SELECT id, starts_at, ends_at FROM availability_slots WHERE doctor_id = %(doctor)s "
     "AND NOT is_booked ORDER BY starts_at LIMIT 20"),
    (2, "appointments by status", "SELECT status, count(*) FROM appointments GROUP BY status"),
)

SAMPLES = (
    "SELECT * FROM clinics WHERE city = 'Pune' ORDER BY name",
    "SELECT * FROM clinics WHERE city = 'Pune' ORDER BY name",
    "SELECT count(*) FROM availability_slots WHERE starts_at > now()",
    "SELECT * FROM doctors WHERE id = %(doctor)s FOR UPDATE",
    "SELECT id FROM doctors ORDER BY random() LIMIT 1",
    "SELECT count(*) FROM pg_class",
    "SELECT 1",
    "UPDATE doctors SET rating = rating WHERE id = %(doctor)s",
)


def connect(url):
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def rows(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def load_subjects(url):
    """Some doctors, patients and specializations to ask for."""
    connection = connect(url)
    column = lambda sql: [row[0] for row in rows(connection, sql)]
    subjects = {
        "doctor": column("SELECT id FROM doctors ORDER BY id LIMIT 200"),
        "patient": column("SELECT patient_id FROM appointments GROUP BY 1 ORDER BY 1 LIMIT 200"),
        "specialization": column("SELECT DISTINCT specialization FROM doctors"),
    }
    connection.close()
    return subjects


def read_for(url, subjects, seconds, seed, results):
    """One reader: how many requests, and each one's milliseconds."""
    chance = random.Random(seed)
    connection = connect(url)
    weights = [weight for weight, _, _ in READS]
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, _, sql = chance.choices(READS, weights)[0]
        values = {name: chance.choice(choices) for name, choices in subjects.items()}
        start = time.perf_counter()
        rows(connection, sql, values)
        times.append((time.perf_counter() - start) * 1000)
    connection.close()
    results.put(("read", times))


def write_for(url, subjects, seconds, results):
    """The writer: each write's milliseconds, and how many the read behind it did not see."""
    writer, reader = connect(url), connect(url)
    chance = random.Random(7)
    times, unseen = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        doctor, fee = chance.choice(subjects["doctor"]), chance.randrange(100, 9999)
        start = time.perf_counter()
        rows(writer, "UPDATE doctors SET consultation_fee = %s WHERE id = %s", (fee, doctor))
        times.append((time.perf_counter() - start) * 1000)
        found = rows(reader, "SELECT consultation_fee FROM doctors WHERE id = %s", (doctor,))
        unseen += int(found[0][0] != fee)
        time.sleep(1 / WRITES_PER_SECOND)
    writer.close()
    reader.close()
    results.put(("write", (times, unseen)))


def database_counters(direct):
    connection = connect(direct)
    found = rows(connection, "SELECT xact_commit + xact_rollback, tup_returned + tup_fetched "
                             "FROM pg_stat_database WHERE datname = current_database()")[0]
    connection.close()
    return found


def settled_counters(direct):
    # Backends hand in their statistics when they end; a moment for the last ones.
    time.sleep(1.2)
    return database_counters(direct)


def run_load(url, direct, subjects, seconds):
    before = settled_counters(direct)
    start = time.monotonic()
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=read_for, args=(url, subjects, seconds, i, results))
               for i in range(READERS)]
    workers.append(multiprocessing.Process(target=write_for,
                                           args=(url, subjects, seconds, results)))
    for worker in workers:
        worker.start()
    times, writes, unseen = [], [], 0
    for _ in workers:
        kind, value = results.get(timeout=seconds + 60)
        if kind == "read":
            times += value
        else:
            writes, unseen = value
    for worker in workers:
        worker.join()
    took = time.monotonic() - start
    after = settled_counters(direct)
    times.sort()
    writes.sort()
    return {
        "requests": len(times) / took,
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "queries": (after[0] - before[0]) / took,
        "rows": (after[1] - before[1]) / took,
        "written": len(writes),
        "write": writes[len(writes) // 2],
        "unseen": unseen,
    }


def table(head, lines):
    texts = [head] + [[str(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in texts) for i in range(len(head))]
    for line in texts:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) if cell.replace(",", "").replace(".", "").isdigit()
                  else cell.ljust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  " + "  ".join(cells).rstrip())


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def wait_ready(http, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(http + "/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:
            why = error
        if time.monotonic() > end:
            raise SystemExit(f"pgfresh is not ready after {seconds} s: {why}")
        time.sleep(0.05)


def wait_caching(url, seconds=15):
    """The feed connects when the database's first client comes; until then everything is passed."""
    connection = connect(url)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows(connection, "SELECT count(*) FROM clinics")
        if last(connection)["verdict"] == "hit":
            break
        time.sleep(0.05)
    connection.close()


def show_load(direct, through, subjects, seconds):
    say(f"{READERS} readers and a writer, {seconds} s directly, {seconds} s through pgfresh")
    wait_caching(through)
    results = {"PostgreSQL directly": run_load(direct, direct, subjects, seconds),
               "through pgfresh": run_load(through, direct, subjects, seconds)}
    table(["", "requests/s", "p50 ms", "p99 ms", "a write, p50 ms", "database queries/s",
           "database rows/s"],
          [[name, f"{r['requests']:,.0f}", f"{r['p50']:.2f}", f"{r['p99']:.2f}",
            f"{r['write']:.1f}", f"{r['queries']:,.0f}", f"{r['rows']:,.0f}"] for name, r in results.items()])
    unseen = results["through pgfresh"]["unseen"]
    written = results["through pgfresh"]["written"]
    print(f"  Through pgfresh {written} writes, each read back at once over another connection: "
          f"{written - unseen} seen, {unseen} not.")
    return unseen


def show_write(direct, through, subjects):
    say("A write, seen at once")
    doctor = subjects["doctor"][0]
    query = "SELECT consultation_fee FROM doctors WHERE id = %s"
    update = "UPDATE doctors SET consultation_fee = %s WHERE id = %s"
    app, past = connect(through), connect(direct)

    def read():
        return int(rows(app, query, (doctor,))[0][0])

    rows(app, update, (100, doctor))
    for _ in range(3):
        read()
        time.sleep(0.02)
    lines = [["read through pgfresh", read(), verdict_of(app)]]
    rows(app, update, (200, doctor))
    seen = read()
    lines.append(["set to 200 through pgfresh, read again", seen, verdict_of(app)])
    time.sleep(0.02)
    lines += [["read again", read(), verdict_of(app)] for _ in range(2)]
    table(["", "fee", "answered by"], lines)

    delays = []
    for fee in range(300, 320):
        time.sleep(0.02)
        read()
        rows(past, update, (fee, doctor))
        start = time.perf_counter()
        while read() != fee:
            if time.perf_counter() - start > 5:
                raise SystemExit("a write past pgfresh was not seen within 5 s")
        delays.append((time.perf_counter() - start) * 1000)
    delays.sort()
    print(f"  20 writes past pgfresh, directly: seen through it {delays[10]:.1f} ms after their "
          f"commit (median), {delays[-1]:.1f} ms at most; promised is 1 s.")
    app.close()
    past.close()
    return 0 if seen == 200 else 1


def last(connection):
    """What SHOW pgfresh.last says, as {column: value}."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW pgfresh.last")
        return dict(zip((column.name for column in cursor.description), cursor.fetchone()))


def verdict_of(connection):
    told = last(connection)
    if told["verdict"] == "hit":
        return f"memory ({told['age_ms']} ms old)"
    return "PostgreSQL" + (f" ({told['reason']})" if told["reason"] else "")


def show_verdicts(through, subjects):
    say("What was cached, and why not: SHOW pgfresh.last after each statement")
    app = connect(through)
    values = {name: choices[0] for name, choices in subjects.items()}
    lines = []
    for sql in SAMPLES:
        rows(app, sql, values)
        told = last(app)
        text = sql.replace("%(doctor)s", "…")
        lines.append([text if len(text) < 60 else text[:57] + "...", told["verdict"],
                      told["reason"] or ""])
        time.sleep(0.02)
    table(["statement", "verdict", "reason"], lines)
    app.close()


def show_console(console):
    say("The console: SHOW STATS, and what SHOW CACHE counts")
    connection = connect(console)
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATS")
        names = [column.name for column in cursor.description]
        stats = dict(zip(names, cursor.fetchone()))
    print(f"  {stats['total_hits']:,} hits, {stats['total_misses']:,} misses, hit_percent "
          f"{stats['hit_percent']:.1f}; {stats['total_fills']:,} answers stored, "
          f"{stats['total_stale_found']:,} refused because a write had come; "
          f"an estimated {stats['saved_ms'] / 1000:,.1f} s of PostgreSQL's time saved (for each hit, "
          "what it took to fetch that answer)")
    reasons = [(name[7:], f"{count:,}", meaning)
               for name, count, meaning in rows(connection, "SHOW CACHE")
               if name.startswith("bypass:")]
    if reasons:
        print("  Not looked up, and why:")
        table(["reason", "times", "meaning"], reasons)
    connection.close()
    return stats["total_hits"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--direct", required=True, help="URL of PostgreSQL")
    parser.add_argument("--pgfresh", required=True, help="URL of the same through pgfresh")
    parser.add_argument("--console", required=True, help="libpq string of pgfresh's console")
    parser.add_argument("--http", required=True, help="pgfresh's HTTP address")
    parser.add_argument("--seconds", type=int, default=5, help="length of each of the two runs")
    options = parser.parse_args()
    wait_ready(options.http)
    subjects = load_subjects(options.direct)
    wrong = show_load(options.direct, options.pgfresh, subjects, options.seconds)
    wrong += show_write(options.direct, options.pgfresh, subjects)
    show_verdicts(options.pgfresh, subjects)
    hits = show_console(options.console)
    if wrong:
        raise SystemExit("a write was not seen at once: that is a defect, please report it")
    if not hits:
        raise SystemExit("nothing was answered from the cache")


if __name__ == "__main__":
    main()
