"""What tests/bench/run measures: each measurement is a function that loads one cluster and returns {row: (value, p99 in
microseconds or None)}. The same client binary loads both implementations.

Where counters are kept (ring, hot, txn), their last value is compared with what the clients say they did: a run that
lost an update is no measurement and ends everything.
"""
import contextlib
import json
import os
import re
import subprocess
import time

from lab import BUILD, LabError

CLIENT = os.path.join(BUILD, 'tests', 'bench_client')
TICKS = os.sysconf('SC_CLK_TCK')
CORE = 0          # what is pinned is pinned here


class Measurement:
    """`rows`: {name: (unit, 'higher' or 'lower' is better, the aim for the ratio or None)}, on clusters of `nodes` nodes."""

    def __init__(self, name, nodes, function, rows):
        self.name, self.nodes, self.function, self.rows = name, nodes, function, rows


class Cluster:
    """One lab that is up, with what the measurements need to remember about it."""

    def __init__(self, lab, options):
        self.lab, self.options, self.flavour = lab, options, lab.flavour
        self.serial = 0
        self.filled = 0
        self.known_users = []

    def tag(self):
        self.serial += 1
        return 't%d' % self.serial

    def clients(self, what, arguments=(), nodes=None, seconds=None, tag=None, pinned=False, tags=None):
        """One client on each of `nodes` (indexes, may repeat), begun at the same time; what each said."""
        nodes = range(self.lab.count) if nodes is None else nodes
        tag = tag or self.tag()
        started = []
        for place, number in enumerate(nodes):
            command = (['taskset', '-c', str(CORE)] if pinned else []) + [
                CLIENT, '--socket', self.flavour.socket, '--wait', '--nodes', str(self.lab.count),
                '--seconds', str(seconds or self.options.seconds), '--tag', tags[place] if tags else tag, what, *map(str, arguments)]
            started.append(self.lab.nodes[number].popen(command, samba=True, stdin=subprocess.PIPE))
        for process in started:
            process.stdout.readline()       # "ready"
        for process in started:
            try:
                process.stdin.write('go\n')
                process.stdin.flush()
            except BrokenPipeError:
                pass                        # it has ended, and says why below
        said = []
        for process in started:
            out, err = process.communicate(timeout=600)
            if process.returncode:
                raise LabError('%s: bench_client %s failed: %s' % (self.flavour.name, what, err.strip()))
            said.append(json.loads(out))
        return said

    def pin(self, cores, nodes=None):
        """All threads of the nodes' processes to these cores."""
        for node in self.lab.nodes if nodes is None else nodes:
            for pid in node.pids():
                with contextlib.suppress(OSError):      # it has just ended
                    for thread in os.listdir('/proc/%d/task' % pid):
                        os.sched_setaffinity(int(thread), cores)

    def pinned(self):
        return _Pinned(self)


class _Pinned:
    """While in it, the whole cluster runs on one core, as the clients that are started pinned do."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __enter__(self):
        self.cluster.pin({CORE})

    def __exit__(self, *_):
        self.cluster.pin(set(range(os.cpu_count())))


def total(said):
    return sum(one['ops_per_s'] for one in said)


def worst(said):
    return max(one['p99_us'] for one in said)


def check_counter(cluster, what, said):
    done, value = sum(one['ops'] for one in said), max(one['value'] for one in said)
    if done != value:
        raise LabError('%s: %s: %d increments were made and the counter says %d' % (cluster.flavour.name, what, done, value))


# ---- volatile records ----

def ring(cluster):
    said = cluster.clients('ring')
    check_counter(cluster, 'ring', said)
    return {'record ring, %d nodes' % cluster.lab.count: (total(said), worst(said))}


def hot(cluster):
    said = cluster.clients('hot')
    check_counter(cluster, 'hot', said)
    slowest = min(one['ops'] for one in said) / sum(one['ops'] for one in said) * len(said)
    return {'hot key, %d nodes: all locks' % cluster.lab.count: (total(said), worst(said)),
            "hot key: the slowest node's part of a fair share": (slowest, None),
            'hot key: longest wait for the lock': (max(one['max_us'] for one in said) / 1e3, None)}


def many(cluster, name, arguments):
    said = cluster.clients('many', arguments)
    remote = sum(one['remote'] for one in said) / sum(one['ops'] for one in said)
    return {'1000 keys, 3 nodes, %s' % name: (total(said), worst(said)), '1000 keys, %s: remote part' % name: (remote, None)}


def local(cluster, processes):
    with cluster.pinned() if processes == 1 else _Nothing():
        said = cluster.clients('local', nodes=[0] * processes, tags=['p%d' % i for i in range(processes)], pinned=processes == 1)
    return {'lock and store here, %d process%s' % (processes, '' if processes == 1 else 'es, other keys'): (total(said), worst(said))}


def parse(cluster):
    said = cluster.clients('parse', nodes=[0], pinned=True)
    return {'parse of a record that is here': (total(said), worst(said))}


class _Nothing:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def traverse(cluster):
    records = cluster.options.records
    if not cluster.filled:
        each = records // cluster.lab.count
        cluster.clients('fill', ['--database', 'traverse.tdb', '--keys', each])
        cluster.filled = each * cluster.lab.count
    said = cluster.clients('traverse', ['--database', 'traverse.tdb'], nodes=[0])
    if said[0]['records'] != cluster.filled:
        raise LabError('%s: a traverse of %d records found %d' % (cluster.flavour.name, cluster.filled, said[0]['records']))
    return {'traverse of %d records' % records: (total(said), None)}


def attach(cluster, again):
    arguments = ['--count', 200, '--again'] if again else ['--count', 10]
    said = cluster.clients('attach', arguments, nodes=[0])
    return {'attach and open %s' % ('a database that is there' if again else 'a new database'):
            (said[0]['p50_us'] / 1e3, said[0]['p99_us'])}


# ---- messages and controls ----

def message_ring(cluster):
    if cluster.lab.count == 1:
        with cluster.pinned():
            said = cluster.clients('msg', pinned=True)
    else:
        said = cluster.clients('msg')
    return {'message ring, %d node%s' % (cluster.lab.count, '' if cluster.lab.count == 1 else 's'): (total(said), worst(said))}


def ping(cluster):
    with cluster.pinned():
        said = cluster.clients('ping', nodes=[0], pinned=True)[0]
    return {'round trip to the own daemon': (said['p50_us'], said['p99_us'])}


def ping_other(cluster):
    said = cluster.clients('ping', ['--node', cluster.lab.count - 1], nodes=[0])[0]
    return {'round trip to another node': (said['p50_us'], said['p99_us'])}


# ---- transactions and accounts ----

def transactions(cluster, clients):
    said = cluster.clients('txn', ['--database', 'txn.tdb'], nodes=range(clients))
    check_counter(cluster, 'txn', said)
    return {'transactions, %d nodes, %d client%s' % (cluster.lab.count, clients, '' if clients == 1 else 's'): (total(said), worst(said))}


# Runs in the node: one pdbedit after the other, prints the seconds each took. Its own start is not in the figure.
CALLS = r'''
import subprocess, sys, time
command, users = sys.argv[1], sys.argv[2:]
for user in users:
    arguments = ["pdbedit", "-a", "-t", "-u", user] if command == "add" else ["pdbedit", "-L"]
    began = time.monotonic()
    subprocess.run(arguments, input=b"Pw-1\nPw-1\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    print(time.monotonic() - began)
'''


def accounts(cluster):
    names = ['user%d-%d' % (len(cluster.known_users), i) for i in range(cluster.options.users)]
    cluster.lab.add_unix_users(names)
    def calls(node, command, users):
        return [float(line) for line in node.python(CALLS, command, *users, samba=True, bound=1200).stdout.split()]
    if not cluster.known_users:
        calls(cluster.lab.nodes[0], 'add', names[:1])       # the first call of all creates the databases
        names = names[1:]
    cluster.known_users += names
    added = sorted(calls(cluster.lab.nodes[0], 'add', names))
    listed = sorted(calls(cluster.lab.nodes[-1], 'list', ['x'] * 5))
    return {'account added by `pdbedit -a`': (1e3 * added[len(added) // 2], 1e6 * added[-1]),
            'accounts added in a row': (len(names) / sum(added), None),
            '`pdbedit -L`': (1e3 * listed[len(listed) // 2], None)}


# ---- the daemon at rest ----

def cpu_seconds(node):
    """Of all the node's processes and the children they have reaped (event scripts)."""
    used = 0
    for pid in node.pids():
        try:
            with open('/proc/%d/stat' % pid) as stat:
                said = stat.read()
            used += sum(int(field) for field in said[said.rindex(')') + 2:].split()[11:15])
        except OSError:
            pass
    return used / TICKS


def rss_mb(pids):
    kilobytes = 0
    for pid in pids:
        try:
            with open('/proc/%d/status' % pid) as status:
                kilobytes += int((re.search(r'VmRSS:\s+(\d+)', status.read()) or [0, 0])[1])
        except OSError:
            pass
    return kilobytes / 1024


def idle(cluster):
    nodes = cluster.lab.nodes
    before = [cpu_seconds(node) for node in nodes]
    began = time.monotonic()
    time.sleep(cluster.options.idle)        # what is measured: doing nothing for so long
    span = time.monotonic() - began
    used = sum(cpu_seconds(node) for node in nodes) - sum(before)
    return {'CPU of an idle node, all processes and event scripts': (100 * used / span / len(nodes), None),
            'RSS of all processes of a node': (sum(rss_mb(node.pids()) for node in nodes) / len(nodes), None)}


HIGHER, LOWER = 'higher', 'lower'

MEASUREMENTS = [
    Measurement('local', 1, lambda c: local(c, 1), {'lock and store here, 1 process': ('1/s', HIGHER, 1.2)}),
    Measurement('local2', 1, lambda c: local(c, 2), {'lock and store here, 2 processes, other keys': ('1/s', HIGHER, 1.2)}),
    Measurement('parse', 1, parse, {'parse of a record that is here': ('1/s', HIGHER, 1.0)}),
    Measurement('msg1', 1, message_ring, {'message ring, 1 node': ('1/s', HIGHER, None)}),
    Measurement('ring', 3, ring, {'record ring, 3 nodes': ('1/s', HIGHER, 2)}),
    Measurement('hot', 3, hot, {'hot key, 3 nodes: all locks': ('1/s', HIGHER, 1.0),
                                "hot key: the slowest node's part of a fair share": ('', HIGHER, None),
                                'hot key: longest wait for the lock': ('ms', LOWER, None)}),
    Measurement('uniform', 3, lambda c: many(c, 'uniform', []), {'1000 keys, 3 nodes, uniform': ('1/s', HIGHER, None),
                                                                 '1000 keys, uniform: remote part': ('', None, None)}),
    Measurement('zipf', 3, lambda c: many(c, 'Zipf', ['--zipf', 1]), {'1000 keys, 3 nodes, Zipf': ('1/s', HIGHER, None),
                                                                      '1000 keys, Zipf: remote part': ('', None, None)}),
    Measurement('msg', 3, message_ring, {'message ring, 3 nodes': ('1/s', HIGHER, 1.5)}),
    Measurement('ping', 3, ping, {'round trip to the own daemon': ('us', LOWER, 1.2)}),
    Measurement('ping-other', 3, ping_other, {'round trip to another node': ('us', LOWER, 1.0)}),
    Measurement('txn', 3, lambda c: transactions(c, 1), {'transactions, 3 nodes, 1 client': ('1/s', HIGHER, 3)}),
    Measurement('txn3', 3, lambda c: transactions(c, 3), {'transactions, 3 nodes, 3 clients': ('1/s', HIGHER, 5)}),
    Measurement('traverse', 3, traverse, {'traverse of 100000 records': ('records/s', HIGHER, 3)}),
    Measurement('attach', 3, lambda c: attach(c, False), {'attach and open a new database': ('ms', LOWER, None)}),
    Measurement('open', 3, lambda c: attach(c, True), {'attach and open a database that is there': ('ms', LOWER, None)}),
    Measurement('accounts', 3, accounts, {'account added by `pdbedit -a`': ('ms', LOWER, 1.5), 'accounts added in a row': ('1/s', HIGHER, 1.5),
                                          '`pdbedit -L`': ('ms', LOWER, None)}),
    Measurement('idle', 3, idle, {'CPU of an idle node, all processes and event scripts': ('% of a core', LOWER, 1),
                                  'RSS of all processes of a node': ('MB', LOWER, None)}),
    Measurement('ring5', 5, ring, {'record ring, 5 nodes': ('1/s', HIGHER, None)}),
    Measurement('msg5', 5, message_ring, {'message ring, 5 nodes': ('1/s', HIGHER, None)}),
    Measurement('txn5', 5, lambda c: transactions(c, 1), {'transactions, 5 nodes, 1 client': ('1/s', HIGHER, None)}),
]
START = ('start to all OK, three daemons', ('s', LOWER, 10))
