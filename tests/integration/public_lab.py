"""A lab with a public network: beside what lab.py makes, every node has an interface `pub0` on a second bridge, with
public addresses on it, and a client host stands there too.

What a node says on the public network is seen at its own port of the bridge, so there is no doubt which node it was:
`Watch` writes down every ARP, neighbour advertisement and TCP segment that bears a public address as its sender, and
`assert_one_owner` proves from it that no address ever spoke from two nodes at the same time.
"""
import json
import os
import re
import signal
import subprocess

from lab import Host, Lab, LabError, Scenario, Tdbmesh, RealCtdb, _kill, asked_for_peer, wait_for

PORT = 4445
CLIENT4, CLIENT6 = '10.99.0.200', 'fd99::200'


def public_addresses(count=6, ipv6=2):
    return ['10.99.0.%d/24' % (101 + i) for i in range(count)] + ['fd99::%d/64' % (101 + i) for i in range(ipv6)]


SERVER = r'''
import socket, selectors, sys
name, port = sys.argv[1].encode(), int(sys.argv[2])
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", port)); s.listen(512); s.setblocking(False)
sel = selectors.DefaultSelector(); sel.register(s, 1)
while True:
    for key, _ in sel.select():
        try:
            if key.fileobj is s:
                c, _ = s.accept(); c.setblocking(False); c.send(name + b"\n"); sel.register(c, 1)
            else:
                d = key.fileobj.recv(4096)
                if d: key.fileobj.send(name + b"\n")
                else: sel.unregister(key.fileobj); key.fileobj.close()
        except OSError:
            if key.fileobj is not s: sel.unregister(key.fileobj); key.fileobj.close()
'''

# Connects to each address every STEP seconds and writes [time, address, who answered].
PROBE = r'''
import json, select, socket, sys, time
port, step, addresses = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
ep, live, nxt = select.epoll(), {}, time.monotonic()
ep.register(0, select.EPOLLIN | select.EPOLLHUP)
out = sys.stdout
while True:
    now = time.monotonic()
    if now >= nxt:
        nxt = max(nxt + step, now)
        for a in addresses:
            s = socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET); s.setblocking(False)
            try: s.connect((a, port))
            except BlockingIOError: pass
            except OSError: s.close(); continue
            live[s.fileno()] = (s, now, a); ep.register(s.fileno(), select.EPOLLIN)
        for fd in [f for f, x in live.items() if now - x[1] > 0.5]:
            ep.unregister(fd); live.pop(fd)[0].close()
    for fd, _ in ep.poll(max(0, nxt - time.monotonic())):
        if fd == 0: sys.exit()
        s, began, a = live.pop(fd); ep.unregister(fd)
        try: d = s.recv(16).decode().strip()
        except OSError: d = ""
        s.close()
        if d: out.write(json.dumps([time.monotonic(), a, int(d), began]) + "\n"); out.flush()
'''

# One connection per address that is kept: writes [time, address, node, own end] whenever it is (again) established and
# served.
KEEP = r'''
import json, select, socket, sys, time
port, addresses = int(sys.argv[1]), sys.argv[2:]
def say(a, d, s):
    host, own = s.getsockname()[:2]
    end = "[%s]:%d" % (host, own) if ":" in host else "%s:%d" % (host, own)
    sys.stdout.write(json.dumps([time.monotonic(), a, int(d), end]) + "\n"); sys.stdout.flush()
state = {}
while True:
    for a in addresses:
        s = state.get(a)
        if s is None:
            s = socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET); s.settimeout(5)
            try:
                s.connect((a, port)); d = s.recv(16).decode().strip()
            except OSError:
                s.close(); continue
            if not d: s.close(); continue
            s.setblocking(False); state[a] = s; say(a, d, s)
        try:
            d = s.recv(16)
            if not d: raise OSError
        except BlockingIOError: continue
        except OSError: s.close(); state[a] = None
    if select.select([0], [], [], 0.01)[0]: sys.exit()
'''

# At the bridge: who sends with which public address. Lines: time port address kind
WATCH = r'''
import socket, struct, sys, time
wanted = set(sys.argv[1:])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
print("ready", flush=True)
while True:
    f, (port, _, kind, _, _) = s.recvfrom(2048)
    if kind == 4 or not port.startswith("pub"): continue
    t, e = time.monotonic(), f[12:14]
    if e == b"\x08\x06": a, k = socket.inet_ntoa(f[28:32]), "arp"
    elif e == b"\x08\x00" and f[23] == 6: a, k = socket.inet_ntoa(f[26:30]), "rst" if f[14 + (f[14] & 15) * 4 + 13] & 4 else "tcp"
    elif e == b"\x86\xdd" and f[20] == 58 and f[54] == 136: a, k = socket.inet_ntop(10, f[62:78]), "na"
    elif e == b"\x86\xdd" and f[20] == 6: a, k = socket.inet_ntop(10, f[22:38]), "rst" if f[67] & 4 else "tcp"
    else: continue
    if a in wanted: sys.stdout.write("%.6f %s %s %s\n" % (t, port[3:], a, k))
'''


class PublicTdbmesh(Tdbmesh):
    public = tuple(public_addresses())

    def configure(self, lab, node):
        super().configure(lab, node)
        write_public(node, self.config_dir, self.public)


class PublicCtdb(RealCtdb):
    public = tuple(public_addresses())

    def configure(self, lab, node):
        super().configure(lab, node)
        write_public(node, self.config_dir, self.public)


def write_public(node, folder, lines):
    with open(node.path(folder + '/public_addresses'), 'w') as out:
        out.write(''.join('%s pub0\n' % line for line in lines))


class PublicLab(Lab):
    def __init__(self, count=3, flavour=None, **options):
        super().__init__(count, flavour or (PublicCtdb(**options) if asked_for_peer() else PublicTdbmesh(**options)))
        self.client = None
        self.addresses = [line.split('/')[0] for line in self.flavour.public]
        self._watch = None

    def _make(self):
        super()._make()
        self.in_switch('ip', 'link', 'add', 'world', 'type', 'bridge', 'forward_delay', '0', 'mcast_snooping', '0')
        self.in_switch('ip', 'link', 'set', 'world', 'up')
        self.client = Host('client', full=False)
        for host, port in [(node, 'pub%d' % node.number) for node in self.nodes] + [(self.client, 'client')]:
            self.in_switch('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'pub0', 'netns', str(host.init))
            self.in_switch('ip', 'link', 'set', port, 'master', 'world', 'up')
            lines = ['ip link set lo up', 'sysctl -qw net.ipv6.conf.pub0.accept_dad=0 || true', 'ip link set pub0 up']
            if host is self.client:
                lines += ['ip addr add %s/24 dev pub0' % CLIENT4, 'ip addr add %s/64 dev pub0 nodad' % CLIENT6]
            subprocess.run(host.enter(['sh', '-ec', '; '.join(lines)]), check=True)
        for node in self.nodes:
            self.serve(node)

    def destroy(self):
        if self.up and self.client:
            self.client.kill()
            self.client = None
        super().destroy()

    def serve(self, node):
        """A server on PORT that says the node's number. Detached: an nsenter that waits for it would be stopped along
        with it when the node is frozen, and then never let its namespace end."""
        node.run(['sh', '-c', 'setsid /usr/bin/python3 -c "$0" "$@" </dev/null >/dev/null 2>&1 &', SERVER,
                  str(node.number), str(PORT)])

    def in_client(self, script, *arguments):
        return subprocess.Popen(self.client.enter(['/usr/bin/python3', '-c', script] + [str(a) for a in arguments]),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    # -- who has which address --

    def owners(self, node=None):
        """{address: pnn or -1} as a node's daemon says."""
        said = (node or self.nodes[0]).tool('ip', 'all', check=False, bound=30).stdout
        return {a: int(pnn) for a, pnn in re.findall(r'^(\S+) (-?\d+)$', said, re.M) if a in self.addresses}

    def holders(self):
        """{address: [pnn]} as the kernels say."""
        found = {address: [] for address in self.addresses}
        for node in self.nodes:
            said = subprocess.run(node.enter(['ip', '-o', 'addr', 'show']), capture_output=True, text=True).stdout
            for address in re.findall(r'inet6? ([0-9a-f.:]+)/', said):
                if address in found:
                    found[address].append(node.number)
        return found

    def all_hosted(self, by=None):
        """Every address in the kernel of exactly one node, and every one of `by` has some."""
        holders = self.holders()
        by = {node.number for node in (self.nodes if by is None else by)}
        return all(len(who) == 1 for who in holders.values()) and {who[0] for who in holders.values()} == by

    def wait_all_hosted(self, by=None, bound=120):
        wait_for(lambda: self.all_hosted(by), lambda: 'all addresses to be hosted by %s\n%s\n%s' % (
            'all' if by is None else [n.number for n in by], self.holders(), self.describe()), bound)

    # -- what can happen to a node --

    def power_off(self, node):
        """No frame leaves it any more, and its processes stand still."""
        for port in ('port%d' % node.number, 'pub%d' % node.number):
            self.in_switch('ip', 'link', 'set', port, 'down')
        for pid in node.pids():
            _kill(pid, signal.SIGSTOP)

    def kill_everything(self, node):
        """kill -9 of every process of the node, in one blow: all of them stopped first, so that none sees another die."""
        pids = node.pids()
        for pid in pids:
            _kill(pid, signal.SIGSTOP)
        for pid in pids:
            _kill(pid, signal.SIGKILL)

    def repair(self, node):
        """Whatever was done to it: links up, processes going or started again, the server too."""
        for pid in node.pids():
            _kill(pid, signal.SIGCONT)
        for port in ('port%d' % node.number, 'pub%d' % node.number):
            self.in_switch('ip', 'link', 'set', port, 'up')
        node.cut_off = False
        subprocess.run(node.enter(['ip', 'link', 'set', 'pub0', 'up']), check=True)
        if node.daemon_pid() is None:
            node.wait_until_ended()
            node.start()
        if not node.pids('python3'):
            self.serve(node)

    def make_whole(self):
        for node in self.nodes:
            self.repair(node)
        super().make_whole()


class PublicScenario(Scenario):
    """A scenario with public addresses; each test begins when all of them are hosted by all nodes."""

    @classmethod
    def make_lab(cls):
        return PublicLab(cls.node_count)

    def setUp(self):
        super().setUp()
        self.lab.wait_all_hosted()


class Watch:
    """Records who speaks with which public address, while in `with`."""

    def __init__(self, lab):
        self.lab = lab
        self.path = os.path.join(lab.work, 'watch')

    def __enter__(self):
        self.process = subprocess.Popen(self.lab.switch.enter(['/usr/bin/python3', '-uc', WATCH] + self.lab.addresses),
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != 'ready\n':
            raise LabError('cannot watch the public network')
        self.said = []
        import threading
        self.reader = threading.Thread(target=lambda: self.said.extend(line.split() for line in self.process.stdout))
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def spoken(self):
        """{address: [(time, pnn, kind)]} in order of time."""
        result = {}
        for time_, port, address, kind in list(self.said):
            result.setdefault(address, []).append((float(time_), int(port), kind))
        return {address: sorted(heard) for address, heard in result.items()}

    def turns(self, address):
        """Who spoke, in order, one entry for each turn: [(pnn, first time, last time)]."""
        turns = []
        for time_, pnn, _ in self.spoken().get(address, []):
            if turns and turns[-1][0] == pnn:
                turns[-1][2] = time_
            else:
                turns.append([pnn, time_, time_])
        return [tuple(turn) for turn in turns]

    def overlaps(self):
        """[(address, node, seconds)]: the node still spoke so long after another one had begun. For the time of one
        move: a node that gets an address back looks the same."""
        found = []
        for address in self.spoken():
            turns = self.turns(address)
            for k, (pnn, _, _) in enumerate(turns):
                later = [last for other, _, last in turns[k + 1:] if other == pnn]
                if later:
                    found.append((address, pnn, max(later) - turns[k + 1][1]))
        return found


class Probe:
    """Connects to addresses every 10 ms while in `with`; answers in `heard` as (time, address, node, began)."""

    def __init__(self, lab, addresses=None, step=0.01):
        self.lab, self.addresses, self.step = lab, addresses or lab.addresses, step
        self.heard = []

    def __enter__(self):
        import threading
        self.process = self.lab.in_client(PROBE, PORT, self.step, *self.addresses)
        self.reader = threading.Thread(target=lambda: [self.heard.append(tuple(json.loads(line)))
                                                       for line in self.process.stdout])
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def answers(self, address):
        return [h for h in list(self.heard) if h[1] == address]

    def wait_for(self, address, condition, bound=60):
        """The first answer for which condition(node, time) holds."""
        return wait_for(lambda: next((h for h in self.answers(address) if condition(h[2], h[0])), None),
                        lambda: 'an answer of %s; holders %s\n%s' % (address, self.lab.holders(), self.lab.describe()),
                        bound, 0.005)
