"""smbd, nmbd and winbindd on all nodes of a lab, and clients on a host of their own in the lab's network."""
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading

from lab import NETWORK, PASSWORD, LabError, Scenario, _comm, _kill, oldest, wait_for
from smb2_client import Smb2

SERVICES = ('winbindd', 'smbd', 'nmbd')
CLIENT = NETWORK % 250
USER = 'jo'
SHARE = 'share'
_CLONE_NEWNET = 0x40000000


def socket_to(lab, address, port):
    """A socket that was made in the lab's network, connected. It stays there whoever uses it."""
    made = []

    def connect():
        with open('/proc/%d/ns/net' % lab.switch.init) as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                made.append(OSError(ctypes.get_errno(), 'setns'))
                return
        try:
            made.append(socket.create_connection((address, port), 20))
        except OSError as error:
            made.append(error)
    thread = threading.Thread(target=connect)       # a namespace belongs to a thread: this one ends with it
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def answers(lab, node):
    try:
        socket_to(lab, node.address, 445).close()
        return True
    except OSError:
        return False


def start_services(lab, nodes):
    """Starts what does not run, and waits until it serves.

    A machine that stands still for seconds costs its node the lease, and Samba's daemons end with their connection, as
    they do on CTDB: what ended while it was waited for is started again, as systemd would do."""
    def serves(node):
        for service in SERVICES:
            if not node.pids(service):
                node.samba([service, '-D'], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return answers(lab, node) and node.samba(['wbinfo', '-p'], check=False).returncode == 0
    for node in nodes:
        wait_for(lambda: serves(node), lambda: 'smbd and winbindd of node %d; running: %s' % (
            node.number, ' '.join(service for service in SERVICES if node.pids(service)) or 'nothing'))


def stop_services(nodes, which=signal.SIGTERM):
    """As systemd stops them: `which` to the main processes, and what outlives them, such as samba-dcerpcd, which waits a
    minute for callers, is ended too."""
    for node in nodes:
        for service in SERVICES:
            try:
                os.kill(oldest(node.pids(service)), which)
            except (ValueError, ProcessLookupError):
                pass
        for pid in helper_processes(node):
            _kill(pid, which)
    for node in nodes:
        wait_for(lambda: not samba_processes(node), lambda: 'Samba of node %d to end: %s' % (
            node.number, samba_processes(node)))


def helper_processes(node):
    """samba-dcerpcd, which smbd and winbindd start when somebody calls, and the servers that it starts."""
    return [pid for pid in node.pids() if _comm(pid).startswith(('samba-dcerpcd', 'rpcd_'))]


def samba_processes(node):
    return [pid for name in SERVICES + ('smbd-notifyd', 'cleanupd') for pid in node.pids(name)] + helper_processes(node)


def smbclient(lab, node, share, user, commands, password=PASSWORD, check=True):
    """smbclient on the clients' host."""
    command = ['smbclient', '-s', '/dev/null', '-U', '%s%%%s' % (user, password), '-c', commands,
               '//%s/%s' % (node.address, share)]
    done = subprocess.run(lab.switch.enter(command), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    if check and done.returncode:
        raise LabError('%s: %s%s' % (commands, done.stdout, done.stderr))
    return done


def make_share(lab):
    """The clients' host, a user, and the share that all nodes serve. Runs once, with the cluster up."""
    lab.in_switch('ip', 'addr', 'add', CLIENT + '/24', 'dev', 'lan')
    os.chmod(os.path.join(lab.work, 'shared', 'share'), 0o777)
    lab.add_unix_users([USER])
    first = lab.nodes[0]
    first.samba(['pdbedit', '-a', '-t', '-u', USER], input='%s\n%s\n' % (PASSWORD, PASSWORD))
    first.samba(['net', 'conf', 'addshare', SHARE, '/srv/share', 'writeable=y', 'guest_ok=n'])
    # else smbd looks only at its own open files when a folder is renamed, on CTDB as here
    first.samba(['net', 'conf', 'setparm', SHARE, 'strict rename', 'yes'])


def leave_the_kernel_out(node, share):
    """Only Samba's databases stand between the share's clients, not the kernel's locks, which all hosts of the lab have in
    common. (Durable handles want that, too.)"""
    for option in ('kernel share modes', 'posix locking', 'kernel oplocks'):
        node.samba(['net', 'conf', 'setparm', share, option, 'no'])


class SambaScenario(Scenario):
    """All services run on all nodes before each test. self.connect(K) is a client session on node K."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        lab.wait_all_ok()
        cls.configure_samba()
        make_share(lab)
        listed = lab.nodes[0].samba(['pdbedit', '-L', '-w', '-u', USER]).stdout
        cls.nt_hash = re.search(r'^%s:\d+:[^:]*:([0-9A-F]{32}):' % USER, listed, re.M).group(1)

    @classmethod
    def configure_samba(cls):
        """Runs once, with the cluster up, before any of Samba's programs."""

    def everywhere(self, command, expected):
        """The command's output has the text on every node."""
        for node in self.nodes:
            self.assertIn(expected, node.samba(command).stdout, 'node %d: %s' % (node.number, ' '.join(command)))

    def nowhere(self, command, text):
        for node in self.nodes:
            self.assertNotIn(text, node.samba(command, check=False).stdout, 'node %d: %s' % (node.number, ' '.join(command)))

    def setUp(self):
        super().setUp()
        start_services(self.lab, self.nodes)
        self.sessions = []
        self.addCleanup(lambda: [session.hang_up() for session in self.sessions])

    def connect(self, number):
        session = Smb2(socket_to(self.lab, self.nodes[number].address, 445), USER, self.nt_hash)
        self.sessions.append(session)
        session.tree('\\\\%s\\%s' % (self.nodes[number].address, SHARE))
        return session

    def smbclient(self, number, commands, user=USER, password=PASSWORD, check=True):
        """smbclient on the clients' host, logged in on node `number`."""
        return smbclient(self.lab, self.nodes[number], SHARE, user, commands, password, check)

    def main_pid(self, number, service='smbd'):
        return oldest(self.nodes[number].pids(service))

    def session_pid(self, number):
        """The smbd of the session on node `number`, if that is the only one there; as seen from outside."""
        parent = self.main_pid(number)
        status = self.nodes[number].samba(['smbstatus', '-p']).stdout
        inside = re.findall(r'^%d:(\d+)\s' % number, status, re.M) or re.findall(r'^(\d+)\s+%s' % USER, status, re.M)
        for pid in self.nodes[number].pids('smbd'):
            with open('/proc/%d/status' % pid) as text:
                in_namespace = re.search(r'^NSpid:.*\t(\d+)$', text.read(), re.M).group(1)
            if in_namespace in inside and pid != parent:
                return pid
        raise LabError('no session on node %d: %s' % (number, status))
