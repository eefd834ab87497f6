"""Asks Apache Kafka and Weir the same, and compares the answers field by field: `compare.py KAFKA WEIR [CASE...]`.

Writes `pass CASE` when all answers are alike but for what `deviations.txt` explains, else `fail CASE: where, and what each said`.
"""

import fnmatch
import os
import sys
import traceback

from protocol import APIS, NULL_UUID, Closed, Connection

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = []

# Fields whose content is each broker's own: compared as there or not there.
OWN = {
    "ClusterId", "Host", "Port", "TopicId", "MemberId", "ProducerId", "SessionId", "ErrorMessage", "LogDir", "TotalBytes", "UsableBytes",
    "ClientHost", "PeerHost", "LastTimestamp", "Documentation", "FinalizedFeaturesEpoch", "ThrottleTimeMs", "LogAppendTimeMs",
    "TransactionStartTimeMs", "CurrentTxnStartTimestamp", "DirectoryId", "ReplicaDirectoryId", "IncarnationId", "LastFetchTimestamp",
    "LastCaughtUpTimestamp",
}  # fmt: skip
# How often a case is played until both answer alike.
ATTEMPTS = 3
NOTHING = (None, "", -1, 0, NULL_UUID)
# Arrays of structs come in no particular order: by the first of these that a struct has.
KEYS = ("Key", "Name", "TopicName", "Topic", "GroupId", "PartitionIndex", "Partition", "Index", "ApiKey", "NodeId", "BrokerId", "TransactionalId", "ResourceName", "MemberId", "User")


def each(*names):
    """A case for the lowest and the highest version of an API, as it is served by Kafka."""

    def keep(function):
        for name in names:
            CASES.append((function, name))
        return function

    return keep


def plain(value, field=""):
    if field in OWN or field == "Leader" and isinstance(value, str):
        return value if value in NOTHING else "<own>"
    if isinstance(value, dict):
        return {name: plain(content, name) for name, content in value.items()}
    if isinstance(value, list):
        items = [plain(one, field) for one in value]
        key = next((key for key in KEYS if items and isinstance(value[0], dict) and key in value[0]), None)
        if key:
            order = sorted(range(len(items)), key=lambda at: str(value[at][key]))
            items = [items[at] for at in order]
        elif items and not isinstance(value[0], (dict, list)):
            items = sorted(items, key=str)
        return items
    if isinstance(value, bytes):
        return value.hex()
    return value


def differences(path, kafka, weir):
    if path.endswith("ErrorMessage") and kafka in (None, ""):
        return  # words where Kafka has none harm nobody
    if isinstance(kafka, dict) and isinstance(weir, dict):
        for name in kafka:
            yield from differences(f"{path}.{name}", kafka[name], weir.get(name))
    elif isinstance(kafka, list) and isinstance(weir, list) and kafka and weir and isinstance(kafka[0], dict):
        names = next((key for key in KEYS if key in kafka[0] and key not in OWN), None)
        if names and len({one[names] for one in kafka + weir}) >= max(len(kafka), len(weir)):
            left, right = ({one[names]: one for one in side} for side in (kafka, weir))
            for name in sorted({*left, *right}, key=str):
                where = f"{path}[{name}]"
                if name not in right:
                    yield where, "there", "missing"
                elif name not in left:
                    yield where, "missing", "there"
                else:
                    yield from differences(where, left[name], right[name])
            return
        if len(kafka) != len(weir):
            yield f"{path}.length", len(kafka), len(weir)
        for at, (left, right) in enumerate(zip(kafka, weir)):
            yield from differences(f"{path}[{at}]", left, right)
    elif kafka != weir:
        yield path, kafka, weir


class Side:
    """One broker in one case: what it was asked and what it answered."""

    def __init__(self, address, versions, prefix):
        self.address, self.versions, self.prefix = address, versions, prefix
        self.connections = [Connection(address)]
        self.answers = []

    def name(self, what):
        return f"{self.prefix}{what}"

    def ask(self, api, version, body, note="", answered=True, keep=True, connection=0):
        """Asks in a version, `None` for the highest."""
        while len(self.connections) <= connection:
            self.connections.append(Connection(self.address))
        served = self.versions.get(APIS[api].key)
        if version is None:
            version = min(served[1], APIS[api].high) if served else APIS[api].high
        label = f"{api}:{version}" + (f":{note}" if note else "")
        if api != "ApiVersions" and (served is None or not served[0] <= version <= served[1]):
            if keep:
                self.answers.append((label, {"": "not served"}))
            raise NotServed(label)
        try:
            answer = self.connections[connection].ask(api, version, body, answered)
        except (Closed, ConnectionError):
            self.connections[connection] = Connection(self.address)
            answer = {"": "closed"}
        if keep:
            self.answers.append((label, answer))
        return answer

    def until(self, api, version, body, holds, **rest):
        """Asks again until the answer is of use; only then it is compared."""
        import time

        end = time.monotonic() + 30
        while True:
            answer = self.ask(api, version, body, keep=False, **rest)
            if holds(answer) or time.monotonic() > end:
                return answer
            time.sleep(0.02)

    def close(self):
        for connection in self.connections:
            connection.close()


class NotServed(Exception):
    pass


def served(address):
    connection = Connection(address)
    answer = connection.ask("ApiVersions", 4, {"ClientSoftwareName": "diff", "ClientSoftwareVersion": "1"})
    connection.close()
    return {one["ApiKey"]: (one["MinVersion"], one["MaxVersion"]) for one in answer["ApiKeys"]}


def known():
    lines = []
    with open(os.path.join(HERE, "deviations.txt")) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                pattern, _, why = line.strip().partition(": ")
                assert why, f"no reason is given: {line}"
                lines.append(pattern)
    return lines


def compared(function, api, version, sides, prefix, patterns, used):
    """What differs in one case, and why it could not be played, if so."""
    found, failed = [], None
    try:
        answers = {}
        for who, (address, versions) in sides.items():
            side = Side(address, versions, prefix)
            try:
                function(side, version) if len(function.__code__.co_varnames[: function.__code__.co_argcount]) == 2 else function(side, api, version)
            except NotServed:
                if who == "kafka":
                    raise
            finally:
                side.close()
            answers[who] = side.answers
        for at, (label, left) in enumerate(answers["kafka"]):
            right = answers["weir"][at][1] if at < len(answers["weir"]) else {"": "not asked"}
            if "" in left or "" in right:  # one of them gave no answer: then that is what is compared
                left, right = left.get("", "an answer"), right.get("", "an answer")
            for path, one, other in differences(label, plain(left), plain(right)):
                full = f"{function.__name__.replace('_', '-')}/{path}"
                full = full.replace(prefix, "~")
                excuse = next((pattern for pattern in patterns if matches(full, pattern)), None)
                if excuse:
                    used.add(excuse)
                else:
                    found.append(f"{full} is {other!r}, with Kafka {one!r}")
            if right in ("not served", "not asked"):
                break
    except Exception as error:  # noqa: BLE001
        place = traceback.extract_tb(error.__traceback__)[-1]
        failed = f"{type(error).__name__} {error} at {os.path.basename(place.filename)}:{place.lineno}"
    return found, failed


def main():
    import cases  # noqa: F401

    kafka, weir, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
    patterns = known()
    used = set()
    sides = {"kafka": (kafka, served(kafka)), "weir": (weir, served(weir))}
    run = os.environ.get("PREFIX", "")
    for function, api in CASES:
        low, high = sides["kafka"][1].get(APIS[api].key, (APIS[api].low, APIS[api].high))
        low, high = max(low, APIS[api].low), min(high, APIS[api].high)
        for version in sorted({low, high}):
            case = f"{function.__name__.replace('_', '-')}:{api}:{version}"
            if wanted and not any(fnmatch.fnmatch(case, one) for one in wanted):
                continue
            # Kafka describes from metadata that follow behind a change, at times later than it is asked: what differs is asked anew.
            for attempt in range(ATTEMPTS):
                prefix = f"{run}{function.__name__}-{api}-{version}-" + (f"{attempt}-" if attempt else "")
                found, failed = compared(function, api, version, sides, prefix, patterns, used)
                if not (failed or found):
                    break
            if failed or found:
                print(f"fail {case}: {failed or '; '.join(found)}".replace("\n", " "))
            else:
                print(f"pass {case}")
            sys.stdout.flush()
    stale = [pattern for pattern in patterns if pattern not in used]
    if not wanted:
        print(f"fail deviations: no answer differs like this any more: {', '.join(stale)}" if stale else "pass deviations")


def matches(path, pattern):
    return fnmatch.fnmatchcase(path.replace("[", "("), pattern.replace("[", "("))


if __name__ == "__main__":
    sys.modules["compare"] = sys.modules["__main__"]
    main()
