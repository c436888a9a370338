"""A laboratory of N hosts on one machine, for tests of whole clusters with real Samba tools.

A host ("node") is a net + mount + pid + uts + ipc namespace with a small init of its own:

  eth0            private network 10.98.0.<K+1>/24, on a bridge in a namespace of its own, so the machine's
                  network is never touched and several labs can stand side by side
  /etc            private (links to the machine's own where nothing differs); /etc/passwd and /etc/group are one
                  file shared by all nodes (stands for LDAP)
  /var/lib        private and on disk; /var/log, /var/cache private; /run a private tmpfs
  /srv            one folder shared by all nodes (stands for the cluster file system)

Nothing outlives the lab: every init is told by the kernel to die with the process that made it (also when that
process is killed), and a pid namespace takes all its processes, mounts and interfaces along.

What runs in the hosts is a Flavour: tdbmesh, tdbmesh from CTDB's own files, or the real CTDB (`--peer`), which
shows that a scenario itself is right.

    with Lab(3) as lab:
        lab.start()
        lab.wait_all_ok()
        lab.add_unix_users(['jo'])
        lab.nodes[0].samba(['pdbedit', '-a', '-t', '-u', 'jo'], input='pw\\npw\\n')

Everything waits for conditions (`wait_for`); the bounds are there only so that a hung test ends.
Standard library only. Must be used from the main thread (the kernel ties "die with my maker" to the thread).
"""
import atexit
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('TDBMESH_BUILD') or os.path.join(ROOT, 'build', 'release'))
BIN = os.path.join(BUILD, 'bin')
SHIM = os.path.join(BUILD, 'lib', 'libtdbmesh-tdb.so')
SLOW = float(os.environ.get('TDBMESH_TEST_SLOWNESS', '1'))   # multiplies every bound
SKIP_STATUS = 77                                              # what ctest takes for "skipped"
NETWORK = '10.98.0.%d'
PASSWORD = 'Secret-1'

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class LabError(Exception):
    pass


def _die_with_my_maker():
    """Runs in a child before exec: the kernel kills it when the thread that made it ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(condition, what, bound=90.0, step=0.02):
    """Polls until condition() is true and returns its value; LabError after `bound` seconds.
    `what` completes the sentence "waited for ...": a string, or a function that describes the state now."""
    end = time.monotonic() + bound * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError('waited %.0f s in vain for %s' % (bound * SLOW, what() if callable(what) else what))
        time.sleep(step)


def why_not_here():
    """None if labs can be made on this machine, else the reason."""
    if os.geteuid() != 0:
        return 'needs root (network, mount and pid namespaces)'
    for tool in ('unshare', 'nsenter', 'ip'):
        if not shutil.which(tool):
            return 'needs the program %s' % tool
    probe = subprocess.run(['unshare', '--net', '--mount', '--pid', '--uts', '--ipc', '--fork', '--mount-proc', 'true'],
                           capture_output=True, text=True)
    if probe.returncode:
        return 'cannot make namespaces here: ' + probe.stderr.strip()
    for program in ('pdbedit', 'net', 'ctdb'):
        if not shutil.which(program):
            return 'needs Samba and its tools: %s is not installed' % program
    return None


# ---- what runs in the hosts --------------------------------------------------------------------------------

class Flavour:
    """How one implementation is configured, started and asked. The defaults are those of CTDB."""
    name = '?'
    is_peer = False
    daemon = 'tdbmeshd'           # process name, for signals
    helpers = ()                  # other processes that must have ended before the daemon can be started again
    tool = 'tdbmesh'
    config_dir = '/etc/tdbmesh'
    state_dir = '/var/lib/tdbmesh'
    runtime_dir = '/run/tdbmesh'
    log = '/var/log/tdbmesh.log'
    samba_options = ()            # lines of smb.conf

    def __init__(self, cluster_lock=None, settings=None, tunables=()):
        self.cluster_lock = cluster_lock
        self.settings = settings or {}      # {section: {key: value}}
        self.tunables = tunables

    @property
    def socket(self):
        return self.runtime_dir + '/ctdbd.socket'

    def start_command(self):
        raise NotImplementedError

    def environment(self, lab):
        return {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', 'LC_ALL': 'C'}

    def samba_environment(self):
        """What Samba's programs (and ctdb, where it opens databases) need on top."""
        return {}

    def conf_sections(self):
        sections = {'logging': {'location': 'file:' + self.log, 'log level': 'NOTICE'}}
        if self.cluster_lock:
            sections['cluster'] = {'cluster lock': self.cluster_lock}
        for section, pairs in self.settings.items():
            sections.setdefault(section, {}).update(pairs)
        return sections

    def write_config(self, lab, node, conf_name):
        conf = node.path(self.config_dir)
        os.makedirs(conf, exist_ok=True)
        with open(os.path.join(conf, conf_name), 'w') as out:
            for section, pairs in self.conf_sections().items():
                out.write('[%s]\n' % section + ''.join('\t%s = %s\n' % pair for pair in pairs.items()))
        with open(os.path.join(conf, 'nodes'), 'w') as out:
            out.write(''.join(other.address + '\n' for other in lab.nodes))

    def configure(self, lab, node):
        raise NotImplementedError


class Tdbmesh(Flavour):
    name = 'tdbmesh'
    helpers = ('tdbmesh-supervisor',)   # ends when it has told the others of the daemon's end

    def start_command(self):
        return [BIN + '/tdbmeshd', '--config-dir', self.config_dir, '--state-dir', self.state_dir,
                '--runtime-dir', self.runtime_dir]

    def environment(self, lab):
        env = super().environment(lab)
        # our programs by name, but `ctdb` stays Debian's (the build folder has one of its own)
        programs = os.path.join(lab.work, 'bin')
        if not os.path.isdir(programs):
            os.mkdir(programs)
            for name in ('tdbmeshd', 'tdbmesh', 'dbtool'):
                os.symlink(os.path.join(BIN, name), os.path.join(programs, name))
        env['PATH'] = programs + ':' + env['PATH']
        if self.config_dir != '/etc/tdbmesh':
            env['CTDB_SOCKET'] = self.socket
        return env

    def samba_environment(self):
        return {'LD_PRELOAD': SHIM}

    samba_options = ('ctdbd socket = /run/tdbmesh/ctdbd.socket',)

    def key(self, lab):
        path = os.path.join(lab.work, 'cluster.key')
        if not os.path.exists(path):
            made = subprocess.run([BIN + '/tdbmesh', 'keygen', path], capture_output=True, text=True)
            if made.returncode or not os.path.exists(path):
                raise LabError('tdbmesh keygen failed (%d): %s' % (made.returncode, made.stderr.strip()))
        return path

    def configure(self, lab, node):
        self.write_config(lab, node, 'tdbmesh.conf')
        shutil.copy(self.key(lab), node.path(self.config_dir + '/cluster.key'))
        os.chmod(node.path(self.config_dir + '/cluster.key'), 0o600)
        # Debian's ctdb looks for /run/ctdb and /etc/ctdb/nodes and takes no other path outside its test mode
        if self.runtime_dir != '/run/ctdb':
            os.symlink(self.runtime_dir, node.path('/run/ctdb'))
            os.makedirs(node.path('/etc/ctdb'), exist_ok=True)
            shutil.copy(node.path(self.config_dir + '/nodes'), node.path('/etc/ctdb/nodes'))


class TdbmeshDropIn(Tdbmesh):
    """tdbmesh run from a CTDB node's own files and paths."""
    name = 'tdbmesh in place of ctdb'
    config_dir, state_dir, runtime_dir = '/etc/ctdb', '/var/lib/ctdb', '/run/ctdb'
    log = '/var/log/ctdb/log.ctdb'
    samba_options = ()

    def configure(self, lab, node):
        make_ctdb_folders(node)
        self.write_config(lab, node, 'ctdb.conf')
        with open(node.path('/etc/ctdb/ctdb.tunables'), 'w') as out:
            out.write(''.join(line + '\n' for line in self.tunables))
        open(node.path('/etc/ctdb/public_addresses'), 'w').close()
        shutil.copy(self.key(lab), node.path('/etc/ctdb/cluster.key'))
        os.chmod(node.path('/etc/ctdb/cluster.key'), 0o600)


class RealCtdb(Flavour):
    """Debian's ctdb. Tunables as fast as whole seconds allow, unless the caller asks for those as shipped."""
    name = 'ctdb'
    is_peer = True
    daemon = 'ctdbd'
    helpers = ('ctdb-eventd', 'ctdb_recoverd', 'ctdb_mutex_fcntl_helper')
    tool = 'ctdb'
    config_dir, state_dir, runtime_dir = '/etc/ctdb', '/var/lib/ctdb', '/run/ctdb'
    log = '/var/log/ctdb/log.ctdb'
    FAST = ('KeepaliveInterval=1', 'KeepaliveLimit=2', 'MonitorInterval=1', 'ElectionTimeout=1',
            'RecoverInterval=1', 'RerecoveryTimeout=1', 'TakeoverTimeout=3')

    def __init__(self, cluster_lock='/srv/.ctdb/cluster.lock', settings=None, tunables=FAST):
        settings = settings or ({'cluster': {'leader timeout': '2'}} if tunables else {})
        super().__init__(cluster_lock, settings, tunables)

    def start_command(self):
        return ['/usr/sbin/ctdbd']

    def configure(self, lab, node):
        make_ctdb_folders(node)
        self.write_config(lab, node, 'ctdb.conf')
        with open(node.path('/etc/ctdb/ctdb.tunables'), 'w') as out:
            out.write(''.join(line + '\n' for line in self.tunables))
        open(node.path('/etc/ctdb/public_addresses'), 'w').close()


def make_ctdb_folders(node):
    """What Debian's ctdb package and its service file make."""
    for folder in ('/run/ctdb', '/var/lib/ctdb/volatile', '/var/lib/ctdb/persistent', '/var/lib/ctdb/state', '/var/log/ctdb'):
        os.makedirs(node.path(folder), exist_ok=True)


def flavour_asked_for(**options):
    """tdbmesh, or the real CTDB if the script was called with --peer (or TDBMESH_LAB_PEER is set)."""
    if asked_for_peer():
        options.setdefault('cluster_lock', '/srv/.ctdb/cluster.lock')
        return RealCtdb(**options)
    return Tdbmesh(**options)


def asked_for_peer():
    return '--peer' in sys.argv or bool(os.environ.get('TDBMESH_LAB_PEER'))


# ---- hosts -------------------------------------------------------------------------------------------------

_INIT = r'''
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(s, signal.SIG_IGN)
os.write(3, b"up")
os.close(3)
while True:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    signal.sigwait([signal.SIGCHLD])
'''


class Host:
    """Namespaces held open by an init process. `full` = everything, else only a network namespace."""

    def __init__(self, name, full=True):
        self.name = name
        self.full = full
        kinds = ['--net'] + (['--mount', '--pid', '--uts', '--ipc', '--fork', '--mount-proc', '--kill-child']
                             if full else [])
        ready_read, ready_write = os.pipe()

        def before_exec():
            _die_with_my_maker()
            os.dup2(ready_write, 3)

        self.maker = subprocess.Popen(['unshare'] + kinds + ['--', '/usr/bin/python3', '-I', '-S', '-c', _INIT],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      preexec_fn=before_exec, pass_fds=(3, ready_write), start_new_session=True, cwd='/')
        os.close(ready_write)
        answer = os.read(ready_read, 2)
        os.close(ready_read)
        if answer != b'up':
            raise LabError('cannot make host %s: %s' % (name, self.maker.stderr.read().decode()))
        self.init = self.maker.pid
        if full:
            with open('/proc/%d/task/%d/children' % (self.init, self.init)) as children:
                self.init = int(children.read().split()[0])

    def enter(self, command):
        flags = ['-n'] + (['-m', '-p', '-u', '-i'] if self.full else [])
        return ['nsenter', '-t', str(self.init)] + flags + ['--'] + list(command)

    def kill(self):
        """The end of the host and of everything in it."""
        try:
            os.kill(self.init, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.maker.kill()
        self.maker.wait()
        self.maker.stderr.close()
        # its namespaces (and with them mounts under the work folder) go when the last process has gone
        wait_for(lambda: not os.path.exists('/proc/%d' % self.init), 'host %s to end' % self.name, 30)


class Node(Host):
    def __init__(self, lab, number):
        super().__init__('node%d' % number)
        self.lab = lab
        self.number = number
        self.address = NETWORK % (number + 1)
        self.cut_off = False

    def path(self, inside):
        """A path of the node as seen from outside."""
        return '/proc/%d/root%s' % (self.init, inside)

    def read(self, inside):
        return _text_of(self.path(inside))

    def write(self, inside, text, mode=0o644):
        """A file in the node, its folders too."""
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as out:
            out.write(text)
        os.chmod(path, mode)

    def replace(self, inside, text):
        """write(), for what may be a link to the machine's own file."""
        if os.path.lexists(self.path(inside)):
            os.unlink(self.path(inside))
        self.write(inside, text)

    # -- commands --

    def popen(self, command, samba=False, env=None, **options):
        """Starts a command in the node. A string goes to sh; samba=True adds what Samba's programs need."""
        if isinstance(command, str):
            command = ['sh', '-c', command]
        environment = self.lab.flavour.environment(self.lab)
        command = list(command)
        if samba:
            # by env(1) inside: nsenter itself is not to be preloaded
            extra = ['%s=%s' % pair for pair in self.lab.flavour.samba_environment().items()]
            command = (['env'] + extra if extra else []) + command
        environment.update(env or {})
        options.setdefault('stdin', subprocess.DEVNULL)
        options.setdefault('stdout', subprocess.PIPE)
        options.setdefault('stderr', subprocess.PIPE)
        options.setdefault('text', True)
        if options['text']:
            options.setdefault('errors', 'replace')     # some tools print what they find in databases
        return subprocess.Popen(self.enter(command), env=environment, start_new_session=True, **options)

    def run(self, command, input=None, check=True, bound=120, **options):
        """Runs a command to its end; the result has returncode, stdout, stderr. With check a failure raises."""
        process = self.popen(command, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE, **options)
        try:
            out, err = process.communicate(input, timeout=bound * SLOW)
        except subprocess.TimeoutExpired:
            self._kill_children_of(process)
            out, err = process.communicate()
            raise LabError('node %d: %s did not end within %.0f s\n%s%s'
                           % (self.number, _shown(command), bound * SLOW, out, err))
        result = subprocess.CompletedProcess(command, process.returncode, out, err)
        if check and result.returncode:
            raise LabError('node %d: %s failed (%d)\n%s%s' % (self.number, _shown(command), result.returncode, out, err))
        return result

    def samba(self, command, **options):
        """run() for Samba's programs."""
        return self.run(command, samba=True, **options)

    def out(self, command, **options):
        return self.run(command, **options).stdout

    def python(self, source, *arguments, **options):
        """Runs Python source inside the node."""
        return self.run(['/usr/bin/python3', '-c', source] + [str(a) for a in arguments], **options)

    def tool(self, *arguments, **options):
        """Runs the operator's tool (tdbmesh, or ctdb under --peer)."""
        return self.run([self.lab.flavour.tool] + [str(a) for a in arguments], **options)

    def _kill_children_of(self, process):
        for child in children_of(process.pid):
            _kill(child, signal.SIGKILL)
        process.kill()

    # -- processes --

    def pids(self, name=None):
        """Pids, as seen from outside, of the node's processes (init excepted), all or those called `name`."""
        try:
            ours = os.readlink('/proc/%d/ns/pid' % self.init)
        except OSError:
            return []
        found = []
        for entry in os.listdir('/proc'):
            if not entry.isdigit() or int(entry) == self.init:
                continue
            try:
                if os.readlink('/proc/%s/ns/pid' % entry) != ours:
                    continue
                with open('/proc/%s/stat' % entry) as stat:
                    text = stat.read()
                comm, state = text[text.index('(') + 1:text.rindex(')')], text[text.rindex(')') + 2]
                if state != 'Z' and (name is None or comm == name[:15]):
                    found.append(int(entry))
            except OSError:
                pass
        return sorted(found)

    def daemon_pid(self):
        """The daemon's main process (the oldest of that name), or None."""
        pids = self.pids(self.lab.flavour.daemon)
        return oldest(pids) if pids else None

    def signal_daemon(self, which):
        pid = self.daemon_pid()
        if pid is None:
            raise LabError('node %d: the daemon is not running' % self.number)
        os.kill(pid, which)

    # -- the daemon --

    def start(self, check=True):
        """Starts the daemon; returns once it says that it is in the background."""
        # a daemon keeps its start-up file descriptors if it likes: give it a file, not a pipe we would wait on
        log = os.path.join(self.lab.work, self.name + '.start')
        with open(log, 'w') as out:
            process = self.popen(self.lab.flavour.start_command(), stdout=out, stderr=out)
            try:
                status = process.wait(120 * SLOW)
            except subprocess.TimeoutExpired:
                self._kill_children_of(process)
                process.wait()
                status = -1
        said = _text_of(log)
        if check and status:
            raise LabError('node %d: the daemon did not start (%s): %s' % (
                self.number, 'it did not return' if status < 0 else status, said.strip()))
        return subprocess.CompletedProcess(self.lab.flavour.start_command(), status, said, '')

    def stop(self):
        """Orderly shutdown."""
        self.tool('shutdown', check=False)
        self.wait_until_ended()

    def kill_daemon(self):
        """kill -9 of the daemon's main process, and the time it takes its helpers to notice."""
        self.signal_daemon(signal.SIGKILL)
        self.wait_until_ended()

    def lose_power(self):
        """kill -9 of all its processes, until none is left."""
        wait_for(lambda: not [_kill(pid, signal.SIGKILL) for pid in self.pids()], 'all processes of node %d to end' % self.number)

    def wait_until_ended(self):
        names = (self.lab.flavour.daemon,) + self.lab.flavour.helpers
        wait_for(lambda: not any(self.pids(name) for name in names), 'the daemon of node %d to end' % self.number)

    def freeze_daemon(self):
        self.signal_daemon(signal.SIGSTOP)

    def thaw_daemon(self):
        self.signal_daemon(signal.SIGCONT)

    # -- the private link --

    def cut(self):
        """Pulls the private cable at the switch's end: no reset, no error, only silence."""
        self.lab.in_switch('ip', 'link', 'set', 'port%d' % self.number, 'down')
        self.cut_off = True

    def join(self):
        self.lab.in_switch('ip', 'link', 'set', 'port%d' % self.number, 'up')
        self.cut_off = False

    # -- what the node says --

    def reasons(self):
        """`tdbmesh -v status`: also why the node is as it is. CTDB has no reasons to give."""
        said = self.tool(*([] if self.lab.flavour.is_peer else ['-v']), 'status', check=False)
        return said.stdout + said.stderr

    def flags(self):
        """{pnn: True if OK} as this node sees it, or {} if it does not answer."""
        result = self.run([self.lab.flavour.tool, '-X', 'nodestatus', 'all'], check=False, bound=60)
        seen = {}
        for line in result.stdout.splitlines():
            field = line.strip('|').split('|')
            # Node|IP|Disconnected|Unknown|Banned|Disabled|Unhealthy|Stopped|Inactive|PartiallyOnline|ThisNode
            if len(field) >= 10 and field[0].isdigit():
                seen[int(field[0])] = all(value in '0N' for value in field[2:9])
        return seen

    def in_normal_mode(self):
        return 'Recovery mode:NORMAL' in self.run([self.lab.flavour.tool, 'status'], check=False, bound=60).stdout

    def leader(self):
        said = re.search(r'\d+', self.tool('leader', check=False).stdout)
        return int(said.group()) if said else None

    def log(self):
        return self.read(self.lab.flavour.log)


def _text_of(path):
    try:
        with open(path, errors='replace') as file:
            return file.read()
    except FileNotFoundError:
        return ''


def _shown(command):
    return command if isinstance(command, str) else ' '.join(command)


def oldest(pids):
    """The process that was started first. Not the lowest number: pids wrap around on a busy machine."""
    return min(pids, key=_start_time)


def _start_time(pid):
    try:
        with open('/proc/%d/stat' % pid) as stat:
            text = stat.read()
        return int(text[text.rindex(')') + 2:].split()[19]), pid
    except OSError:
        return 1 << 62, pid


def _kill(pid, which):
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        pass


def children_of(pid):
    try:
        with open('/proc/%d/task/%d/children' % (pid, pid)) as children:
            return [int(child) for child in children.read().split()]
    except OSError:
        return []


# ---- the lab -----------------------------------------------------------------------------------------------

SMB_CONF = """[global]
	workgroup = LAB
	netbios name = LAB
	server role = standalone server
	security = user
	clustering = yes
	passdb backend = tdbsam
	idmap config * : backend = tdb2
	idmap config * : range = 1000000-1999999
	registry shares = yes
	disable spoolss = yes
	load printers = no
	log file = /var/log/samba/log.%m
"""


class Lab:
    def __init__(self, count=3, flavour=None):
        self.flavour = flavour or flavour_asked_for()
        self.count = count
        self.nodes = []
        self.switch = None
        self.up = False

    def __enter__(self):
        self.make()
        return self

    def __exit__(self, *_):
        self.destroy()

    def make(self):
        _end_on_signals()
        _sweep_dead_labs()
        self.work = tempfile.mkdtemp(prefix='tdbmesh-lab.')
        self._owner = open(os.path.join(self.work, 'owner'), 'w')
        fcntl.flock(self._owner, fcntl.LOCK_EX)         # a sweep of another lab sees that this one lives
        atexit.register(self.destroy)
        self.up = True
        try:
            self._make()
        except BaseException:
            self.destroy()
            raise
        return self

    def destroy(self):
        """Ends every process, namespace and mount of the lab. May be called twice."""
        if not self.up:
            return
        self.up = False
        atexit.unregister(self.destroy)
        for host in self.nodes + ([self.switch] if self.switch else []):
            host.kill()
        self._owner.close()
        if os.environ.get('TDBMESH_LAB_KEEP'):
            print('kept: ' + self.work, file=sys.stderr)
        else:
            shutil.rmtree(self.work, ignore_errors=True)

    # -- making --

    def _make(self):
        shared = os.path.join(self.work, 'shared')
        for directory in ('.ctdb', 'etc', 'share'):
            os.makedirs(os.path.join(shared, directory))
        for file in ('passwd', 'group'):
            shutil.copy('/etc/' + file, os.path.join(shared, 'etc', file))
        self.switch = Host('switch', full=False)
        self.in_switch('ip', 'link', 'add', 'lan', 'type', 'bridge', 'forward_delay', '0')
        self.in_switch('ip', 'link', 'set', 'lan', 'up')
        for number in range(self.count):
            self.nodes.append(Node(self, number))
        for node in self.nodes:
            self._wire(node)
            self._mount(node)
        for node in self.nodes:
            self._furnish(node)

    def in_switch(self, *command):
        subprocess.run(self.switch.enter(command), check=True, capture_output=True)

    def _wire(self, node):
        port = 'port%d' % node.number
        self.in_switch('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', str(node.init))
        self.in_switch('ip', 'link', 'set', port, 'master', 'lan', 'up')
        subprocess.run(node.enter(['sh', '-ec', 'ip link set lo up; ip addr add %s/24 dev eth0; ip link set eth0 up; '
                                   'hostname %s' % (node.address, node.name)]), check=True)

    def _mount(self, node):
        top = os.path.join(self.work, node.name)
        real_etc = os.path.join(top, 'real-etc')
        os.makedirs(real_etc)
        _imitate_etc(os.path.join(top, 'etc'), real_etc)
        script = ['mount --bind /etc "%s"; mount -o remount,ro,bind "%s"' % (real_etc, real_etc)]
        for inside, folders in (('/var/lib', ('samba/private', 'tdbmesh', 'ctdb')), ('/var/cache', ('samba',)),
                                ('/var/log', ('samba', 'ctdb')), ('/srv', None), ('/etc', ())):
            outside = os.path.join(self.work, 'shared') if folders is None else os.path.join(top, inside.strip('/'))
            for folder in ('',) + (folders or ()):
                os.makedirs(os.path.join(outside, folder), exist_ok=True)
            for kept in {ROOT, BUILD}:
                # a checkout below a folder that gets hidden stays reachable at its own path
                if kept.startswith(inside + '/'):
                    os.makedirs(outside + kept[len(inside):], exist_ok=True)
                    script.append('mount --bind "%s" "%s%s"' % (kept, outside, kept[len(inside):]))
            script.append('mount --rbind "%s" "%s"' % (outside, inside))
        for file in ('passwd', 'group'):
            script.append('mount --bind "%s/shared/etc/%s" /etc/%s' % (self.work, file, file))
        script.append('mount -t tmpfs -o mode=755 run /run && mkdir -p /run/samba /run/lock')
        script.append('mount -t sysfs sysfs /sys 2>/dev/null || true')
        done = subprocess.run(node.enter(['sh', '-ec', '\n'.join(script)]), capture_output=True, text=True)
        if done.returncode:
            raise LabError('cannot furnish %s: %s' % (node.name, done.stderr))

    def _furnish(self, node):
        def write(inside, text):
            with open(node.path(inside), 'w') as out:
                out.write(text)
        write('/etc/hosts', '127.0.0.1 localhost\n' + ''.join('%s %s\n' % (n.address, n.name) for n in self.nodes))
        write('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files\n')
        os.makedirs(node.path('/etc/samba'), exist_ok=True)
        write('/etc/samba/smb.conf', SMB_CONF + ''.join('\t%s\n' % line for line in self.flavour.samba_options))
        os.chmod(node.path('/var/lib/samba/private'), 0o700)
        self.flavour.configure(self, node)

    def add_unix_users(self, names):
        """Users and groups in the shared /etc/passwd and /etc/group (Samba wants them to exist)."""
        etc = os.path.join(self.work, 'shared', 'etc')
        known = {line.split(':')[0] for line in _text_of(os.path.join(etc, 'passwd')).splitlines()}
        first = getattr(self, '_next_id', 20000)
        names = [name for name in names if name not in known]
        with open(os.path.join(etc, 'passwd'), 'a') as passwd, open(os.path.join(etc, 'group'), 'a') as group:
            for number, name in enumerate(names, first):
                passwd.write('%s:x:%d:%d::/nonexistent:/bin/false\n' % (name, number, number))
                group.write('%s:x:%d:\n' % (name, number))
        self._next_id = first + len(names)

    # -- the cluster --

    def start(self, nodes=None):
        """Starts the daemons at the same time, as machines would after a power cut."""
        nodes = self.nodes if nodes is None else nodes
        started = []
        for node in nodes:
            log = open(os.path.join(self.work, node.name + '.start'), 'w')
            started.append((node, node.popen(self.flavour.start_command(), stdout=log, stderr=log)))
            log.close()
        for node, process in started:
            try:
                status = process.wait(120 * SLOW)
            except subprocess.TimeoutExpired:
                node._kill_children_of(process)
                status = process.wait()
            if status:
                raise LabError('node %d: the daemon did not start (%d): %s' % (
                    node.number, status, _text_of(os.path.join(self.work, node.name + '.start'))))

    def all_ok(self, nodes=None, expect=None):
        """Every one of `nodes` sees all of `expect` (default: the same nodes) as OK and is in normal mode."""
        nodes = self.nodes if nodes is None else nodes
        expect = {node.number for node in (nodes if expect is None else expect)}
        return all(expect <= {pnn for pnn, ok in node.flags().items() if ok} for node in nodes) and \
            nodes[0].in_normal_mode()

    def wait_all_ok(self, nodes=None, bound=120):
        nodes = self.nodes if nodes is None else nodes
        wait_for(lambda: self.all_ok(nodes), lambda: 'nodes %s to be OK\n%s' % (
            [node.number for node in nodes], self.describe(nodes)), bound)

    def make_whole(self):
        """All links up, all daemons running, all nodes OK, whatever was done to them before."""
        for node in self.nodes:
            if node.cut_off:
                node.join()
            for pid in node.pids(self.flavour.daemon):
                _kill(pid, signal.SIGCONT)
        dead = [node for node in self.nodes if node.daemon_pid() is None]
        for node in dead:
            node.wait_until_ended()
        if dead:
            self.start(dead)
        self.wait_all_ok()

    def describe(self, nodes=None):
        """What the nodes say of themselves, for a failure's message."""
        parts = []
        for node in self.nodes if nodes is None else nodes:
            try:
                said = node.run([self.flavour.tool, 'status'], check=False, bound=30)
                status = said.stdout + said.stderr
            except LabError as error:
                status = str(error)
            tail = ''.join(line + '\n' for line in node.log().splitlines()[-15:])
            parts.append('--- node %d, processes: %s\n%s--- end of its log\n%s' % (
                node.number, ' '.join(_comm(pid) for pid in node.pids()), status, tail))
        return ''.join(parts)

    # -- databases --

    def databases(self, node, kind='PERSISTENT'):
        """Names of the databases of one kind that the node has attached."""
        out = node.tool('getdbmap').stdout
        found = re.findall(r'^dbid:0x[0-9a-f]+ name:(\S+) path:\S+(.*)$', out, re.M)
        if kind == 'VOLATILE':
            return sorted(n for n, flags in found if 'PERSISTENT' not in flags and 'REPLICATED' not in flags)
        return sorted(n for n, flags in found if kind in flags.split())

    def digest(self, node, database):
        """One line that is equal on two nodes if and only if both have the same records in their own copy."""
        if not self.flavour.is_peer:
            return node.run(['dbtool', 'digest', database]).stdout.split()[0]
        out = node.run(['ctdb', 'cattdb', database]).stdout
        records = sorted(pair for pair in re.findall(r'^key\(\d+\) = (.*)\n(?:.*\n){3}data\((\d+\) = .*)$', out, re.M)
                         if not pair[1].startswith('0)'))
        return hashlib.sha256(repr(records).encode()).hexdigest()

    def digests(self, nodes=None):
        """{database: {digest: [pnn ...]}} over all persistent databases."""
        nodes = self.nodes if nodes is None else nodes
        result = {}
        for database in sorted({name for node in nodes for name in self.databases(node)}):
            for node in nodes:
                result.setdefault(database, {}).setdefault(self.digest(node, database), []).append(node.number)
        return result


PRIVATE_ETC = ('passwd', 'group', 'hosts', 'nsswitch.conf', 'samba', 'ctdb', 'tdbmesh')


def _imitate_etc(folder, real):
    """Fills `folder`, a node's /etc, with links to the machine's own (seen at `real`, read-only) and with files of
    its own for what differs per node. Copying all of /etc takes seconds on a busy machine."""
    os.mkdir(folder)
    for name in os.listdir('/etc'):
        theirs = os.path.join('/etc', name)
        ours = os.path.join(folder, name)
        if os.path.islink(theirs):
            os.symlink(os.readlink(theirs), ours)       # as it is: it may be relative to /etc
        elif name not in PRIVATE_ETC:
            os.symlink(os.path.join(real, name), ours)
    for name in ('passwd', 'group'):
        open(os.path.join(folder, name), 'w').close()   # the shared ones are mounted here
    if os.path.isdir('/etc/ctdb'):
        shutil.copytree('/etc/ctdb', os.path.join(folder, 'ctdb'), symlinks=True)


def _comm(pid):
    try:
        with open('/proc/%d/comm' % pid) as comm:
            return comm.read().strip()
    except OSError:
        return '(gone)'


def _sweep_dead_labs():
    """Removes work folders whose owner was killed before it could (its processes are gone, its files are not)."""
    base = tempfile.gettempdir()
    for name in os.listdir(base):
        if not name.startswith('tdbmesh-lab.'):
            continue
        try:
            with open(os.path.join(base, name, 'owner')) as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(os.path.join(base, name), ignore_errors=True)
        except OSError:
            pass


def _end_on_signals():
    """SIGTERM and SIGHUP end the program in the ordinary way, so that clean-up runs. As KeyboardInterrupt: of all
    else unittest makes a failed test and goes on."""
    def interrupt(number, _frame):
        raise KeyboardInterrupt('signal %d' % number)
    for which in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(which) == signal.SIG_DFL:
            signal.signal(which, interrupt)


# ---- scenarios ---------------------------------------------------------------------------------------------

class Scenario(unittest.TestCase):
    """A test of a running cluster. One lab per class; before each test the cluster is made whole again.
    On failure the nodes' own words are printed."""
    node_count = 3
    longMessage = True

    @classmethod
    def make_flavour(cls):
        return flavour_asked_for()

    @classmethod
    def make_lab(cls):
        return Lab(cls.node_count, cls.make_flavour())

    @classmethod
    def setUpClass(cls):
        cls.lab = cls.make_lab().make()
        cls.addClassCleanup(cls.lab.destroy)
        cls.lab.start()

    def setUp(self):
        self.nodes = self.lab.nodes
        self.lab.make_whole()

    def run(self, result=None):
        before = (len(result.failures), len(result.errors)) if result else None
        value = super().run(result)
        if result and before != (len(result.failures), len(result.errors)) and self.lab.up:
            sys.stderr.write('\n' + self.lab.describe() + '\n')
        return value

    def fresh_names(self, prefix, count):
        """Names that no other test uses."""
        number = getattr(self.lab, 'batches', 0) + 1
        self.lab.batches = number
        return ['%s%d-%d' % (prefix, number, i) for i in range(count)]

    def fresh_users(self, prefix, count):
        """Unix users that no other test uses."""
        names = self.fresh_names(prefix, count)
        self.lab.add_unix_users(names)
        return names

    def add_account(self, node, user, password=PASSWORD):
        return node.samba(['pdbedit', '-a', '-t', '-u', user], input='%s\n%s\n' % (password, password))

    def accounts(self, node):
        """{name: NT hash} as the node's own pdbedit lists them."""
        listed = {}
        for line in node.samba(['pdbedit', '-L', '-w']).stdout.splitlines():
            field = line.split(':')
            if len(field) >= 6:
                listed[field[0]] = field[3]
        return listed

    def assert_identical_databases(self, nodes=None):
        """Every persistent database is the same on all nodes."""
        def differing():
            return {db: seen for db, seen in self.lab.digests(nodes).items() if len(seen) > 1}
        self.assertTrue(self.lab.digests(nodes), 'there is at least one persistent database')
        self.assertEqual(differing(), {}, 'databases that differ: {name: {digest: nodes}}')


def main():
    """What a scenario script calls. --peer runs it on the real CTDB."""
    if '--peer' in sys.argv:
        sys.argv.remove('--peer')
        os.environ['TDBMESH_LAB_PEER'] = '1'
    reason = why_not_here()
    if reason is None and asked_for_peer() and not os.path.exists('/usr/sbin/ctdbd'):
        reason = "needs Debian's ctdb"
    if reason:
        print('skipped: ' + reason)
        sys.exit(SKIP_STATUS)
    unittest.main(module='__main__', verbosity=2, failfast=False)
