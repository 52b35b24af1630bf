"""Drives the application over HTTP, the same way for the same seed, and records every answer.

    python3 -m telemed.traffic --url http://127.0.0.1:8000 --seed 7 --steps 500 --record a.json
    python3 -m telemed.traffic --compare a.json b.json

Two runs against equal databases (sql/healthcare/data.sql of one scale) must give equal records,
whatever stands between application and database. What PostgreSQL makes up is written in a form
that can be compared: identifiers of rows made in the run as <booking 1>, times of the run as
<recent>. A read that shows an old state therefore shows as a difference.

run() is one client; load() many, for as long as told, and only counts.
"""
import argparse
import hashlib
import http.client
import json
import math
import random
import re
import sys
import threading
import time
import uuid
from collections import Counter
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode, urlsplit

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")
EPOCH = datetime(2026, 6, 1, tzinfo=timezone.utc)
SPECIALIZATIONS = ("General Medicine", "Cardiology", "Dermatology", "Pediatrics", "Orthopedics",
                   "Gynecology", "Neurology", "Psychiatry", "ENT", "Ophthalmology")
CITIES = ((19.0760, 72.8777), (18.5204, 73.8567), (12.9716, 77.5946), (17.3850, 78.4867),
          (13.0827, 80.2707), (22.5726, 88.3639), (28.6139, 77.2090), (23.0225, 72.5714))


class Population:
    """How many of each kind data.sql makes at a scale, and their identifiers."""

    def __init__(self, scale=1.0):
        def size(per_scale, least):
            return max(least, math.ceil(per_scale * scale))
        self.doctors = size(1000, 20)
        self.pharmacies = size(500, 20)
        self.clinics = size(200, 5)
        self.first_patient = self.doctors + size(100, 5) + size(10, 2) + 1
        self.users = size(10000, 100)

    @staticmethod
    def key(kind, number):
        return str(uuid.UUID(hashlib.md5(f"{kind} {number}".encode()).hexdigest()))


class Recorder:
    """One HTTP connection that keeps what was asked and answered."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self.started = datetime.now(timezone.utc) - timedelta(seconds=1)
        self.names = {}
        self.records = []

    def call(self, method, path, body=None, made=None):
        """Returns (status, parsed body). `made`: what a new row in the answer is to be called."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.connection.getresponse()
        text = response.read()
        answer = json.loads(text) if text else None
        if made and response.status == 201:
            self.names[answer["id"]] = f"<{made} {len(self.names) + 1}>"
        self.records.append({
            "request": f"{method} {self.plain(path)}", "sent": self.plain(body),
            "status": response.status, "answer": self.plain(answer)})
        return response.status, answer

    def plain(self, value):
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if not isinstance(value, str):
            return value
        if TIME.match(value):
            # Python before 3.11 reads neither Z nor any number of digits but 3 and 6.
            whole = value.replace("Z", "+00:00").partition("+")[0]
            moment = datetime.strptime(whole.partition(".")[0] + "+00:00", "%Y-%m-%dT%H:%M:%S%z")
            if self.started.replace(microsecond=0) <= moment <= datetime.now(timezone.utc):
                return "<recent>"
            return value
        for known, name in self.names.items():
            value = value.replace(known, name)
        return value


class Visitor:
    """What one client does: mostly reads, of few rows often and of many seldom, and after each
    write the reads that must show it."""

    def __init__(self, recorder, seed, population):
        self.http = recorder
        self.random = random.Random(seed)
        self.population = population
        self.seed = seed
        self.step_number = 0
        self.bookings = []
        self.appointments = []

    # A few doctors get most of the visits.
    def some(self, count):
        return 1 + min(int(self.random.expovariate(8 / count)), count - 1)

    def doctor(self):
        return Population.key("doctor", self.some(self.population.doctors))

    def pharmacy(self):
        return Population.key("pharmacy", self.some(self.population.pharmacies))

    def patient(self):
        first = self.population.first_patient
        return Population.key("user", first + self.some(self.population.users - first) - 1)

    def steps(self):
        return (
            (30, self.read_doctor), (14, self.list_doctors), (10, self.read_slots),
            (8, self.read_clinics), (8, self.read_patient), (6, self.nearby),
            (6, self.read_profile), (5, self.read_pharmacy), (3, self.counts), (3, self.book),
            (2, self.cancel), (2, self.make_appointment), (1, self.cancel_appointment),
            (2, self.change_profile), (2, self.login), (1, self.verify), (1, self.change_doctor), (1, self.push_token),
            (1, self.unknown))

    def run(self, count):
        weights, actions = zip(*self.steps())
        for _ in range(count):
            self.step_number += 1
            self.random.choices(actions, weights)[0]()

    def read_doctor(self):
        self.http.call("GET", f"/doctors/{self.doctor()}")

    def list_doctors(self):
        query = {"page": self.random.choice((1, 1, 1, 2, 3))}
        if self.random.random() < 0.8:
            query["specialization"] = self.random.choice(SPECIALIZATIONS[:4])
        if self.random.random() < 0.2:
            query["page_size"] = self.random.choice((10, 100, 101))
        self.http.call("GET", "/doctors?" + urlencode(query))

    def read_slots(self):
        day = EPOCH + timedelta(days=self.random.randrange(3))
        query = urlencode({"after": day.isoformat(), "before": (day + timedelta(1)).isoformat()})
        self.http.call("GET", f"/doctors/{self.doctor()}/slots?{query}")

    def read_clinics(self):
        self.http.call("GET", f"/doctors/{self.doctor()}/clinics")

    def read_patient(self):
        kind = self.random.choice(("consultations", "appointments"))
        self.http.call("GET", f"/patients/{self.patient()}/{kind}")

    def nearby(self):
        latitude, longitude = self.random.choice(CITIES)
        self.http.call("GET", "/pharmacies/nearby?" + urlencode({
            "latitude": latitude, "longitude": longitude,
            "radius_m": self.random.choice((2000, 5000, 20000))}))

    def read_profile(self):
        self.http.call("GET", f"/users/{self.patient()}/profile")

    def read_pharmacy(self):
        self.http.call("GET", f"/pharmacies/{self.pharmacy()}")

    def counts(self):
        self.http.call("GET", "/admin/counts")

    def unknown(self):
        self.http.call("GET", f"/doctors/{Population.key('nobody', self.step_number)}")
        self.http.call("GET", "/doctors/not-a-uuid")

    def book(self):
        patient, doctor = self.patient(), self.doctor()
        _, slots = self.http.call("GET", f"/doctors/{doctor}/slots")
        if not slots:
            return
        slot = self.random.choice(slots[:5])["id"]
        request = {"patient_id": patient, "slot_id": slot,
                   "transaction_id": f"run-{self.seed}-{self.step_number}"}
        status, booking = self.http.call("POST", "/bookings", request, made="booking")
        if status == 201:
            self.bookings.append((booking["id"], patient, doctor))
        self.http.call("GET", f"/doctors/{doctor}/slots")
        self.http.call("GET", f"/patients/{patient}/consultations")
        if self.random.random() < 0.3:
            self.http.call("POST", "/bookings", request)
            self.http.call("POST", "/bookings", dict(
                request, transaction_id=request["transaction_id"] + "-again"))

    def cancel(self):
        if not self.bookings:
            return
        booking, patient, doctor = self.random.choice(self.bookings)
        self.http.call("POST", f"/consultations/{booking}/cancel")
        self.http.call("GET", f"/consultations/{booking}")
        self.http.call("GET", f"/patients/{patient}/consultations")
        self.http.call("GET", f"/doctors/{doctor}/slots")
        self.http.call("GET", f"/admin/audit/consultation/{booking}")

    def make_appointment(self):
        patient = self.patient()
        status, made = self.http.call("POST", "/appointments", {
            "patient_id": patient, "doctor_id": self.doctor(),
            "clinic_id": Population.key("clinic", self.some(self.population.clinics)),
            "appointment_at": (EPOCH + timedelta(
                days=60, minutes=20 * self.step_number)).isoformat(),
            "reason": "Prüfung, it's due"}, made="appointment")
        if status == 201:
            self.appointments.append((made["id"], patient))
        self.http.call("GET", f"/patients/{patient}/appointments")

    def cancel_appointment(self):
        if self.appointments:
            appointment, patient = self.random.choice(self.appointments)
            self.http.call("POST", f"/appointments/{appointment}/cancel")
            self.http.call("GET", f"/patients/{patient}/appointments")

    def change_profile(self):
        patient = self.patient()
        self.http.call("GET", f"/users/{patient}/profile")
        self.http.call("PATCH", f"/users/{patient}/profile", self.random.choice((
            {"phone": f"+91 7{self.step_number:09}"}, {"blood_group": "O-"},
            {"address": {"city": "Pune", "line": f"{self.step_number} Station Road"}},
            {"full_name": f"Renamed {self.step_number}"})))
        self.http.call("GET", f"/users/{patient}/profile")

    def login(self):
        patient = self.patient()
        self.http.call("POST", f"/users/{patient}/login")
        self.http.call("GET", f"/users/{patient}/profile")

    def verify(self):
        pharmacy = self.pharmacy()
        verified = self.random.choice(("true", "false"))
        self.http.call("POST", f"/pharmacies/{pharmacy}/verify?verified={verified}")
        self.http.call("GET", f"/pharmacies/{pharmacy}")
        self.nearby()
        self.counts()

    def change_doctor(self):
        doctor = self.doctor()
        self.http.call("PATCH", f"/doctors/{doctor}",
                       {"consultation_fee": 500 + self.step_number, "bio": "Änderung"})
        self.http.call("GET", f"/doctors/{doctor}")
        self.list_doctors()

    def push_token(self):
        patient = self.patient()
        token = f"token-{self.random.randrange(20)}"
        self.http.call("PUT", f"/users/{patient}/push-token",
                       {"token": token, "platform": self.random.choice(("ios", "web", "fax"))})
        self.http.call("GET", f"/users/{patient}/push-tokens")


def run(url, seed=1, steps=300, scale=1.0):
    """One client's visit; its records."""
    recorder = Recorder(url)
    Visitor(recorder, seed, Population(scale)).run(steps)
    return recorder.records


def differences(first, second, most=10):
    """What two runs disagree on, as texts, at most so many."""
    found = []
    if len(first) != len(second):
        found.append(f"{len(first)} requests in one, {len(second)} in the other")
    for number, (one, other) in enumerate(zip(first, second), 1):
        if one != other:
            found.append(f"request {number}: {one['request']}\n  {json.dumps(one)}\n"
                         f"  {json.dumps(other)}")
            if len(found) >= most:
                break
    return found


def load(url, seconds, clients=8, seed=1, scale=1.0):
    """Many visitors at once; answers a status, as a Counter, with the time in key 'seconds'."""
    ends = time.monotonic() + seconds
    statuses = Counter()
    lock = threading.Lock()

    def visit(number):
        recorder = Recorder(url)
        visitor = Visitor(recorder, f"{seed}-{number}", Population(scale))
        while time.monotonic() < ends:
            visitor.run(1)
            if len(recorder.records) > 1000:
                drain(recorder)
        drain(recorder)

    def drain(recorder):
        with lock:
            statuses.update(record["status"] for record in recorder.records)
        recorder.records.clear()

    began = time.monotonic()
    threads = [threading.Thread(target=visit, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses["seconds"] = time.monotonic() - began
    return statuses


def main():
    parser = argparse.ArgumentParser(prog="telemed.traffic")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--record", help="file for the records, JSON")
    parser.add_argument("--load", type=float, help="seconds of many clients instead of one")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--compare", nargs=2, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.compare:
        loaded = []
        for name in arguments.compare:
            with open(name, encoding="utf-8") as file:
                loaded.append(json.load(file))
        found = differences(*loaded)
        print("\n".join(found) or f"equal: {len(loaded[0])} requests")
        return 1 if found else 0
    if arguments.load:
        counted = load(arguments.url, arguments.load, arguments.clients, arguments.seed,
                       arguments.scale)
        taken = counted.pop("seconds")
        print(f"{sum(counted.values()) / taken:.0f} requests/s", dict(counted))
        return 0
    records = run(arguments.url, arguments.seed, arguments.steps, arguments.scale)
    print(len(records), "requests:", dict(Counter(record["status"] for record in records)))
    if arguments.record:
        with open(arguments.record, "w", encoding="utf-8") as file:
            json.dump(records, file, indent=1, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
