"""The machines of the textbook lab: servers and a workstation, each with namespaces, a root directory and a boot.

    server1, server2 ...   eth0 10.98.0.<k>  private network: the cluster and GlusterFS
                           pub0 10.99.0.<k>  public network: where clients are, and the floating address
    witness, if wanted     eth0 10.98.0.<k>  nothing else: tdbmesh alone runs there
    arbiter, if wanted     eth0 10.98.0.<k>  nothing else: GlusterFS alone runs there
    workstation            pub0 10.99.0.200

A machine's root is a tmpfs with the machine's own /usr, over which an installation of tdbmesh is laid; its /etc is the
real one with a layer of its own on top, so useradd and an editor work; /var and the bricks are folders of its own, on
disk. Nothing of that is seen or left outside. A power cut is a real one: silence first, then every process, mount and
interface of the machine is gone, and `power_on` boots what the disk holds.
"""
import glob
import os
import shutil
import signal
import subprocess

from lab import BUILD, Host, Lab, LabError, Node, _kill, children_of

HERE = os.path.dirname(os.path.abspath(__file__))
FLOATING = '10.99.0.100'
WORKSTATION = '10.99.0.200'
LAYERED = ('etc',)                                  # the real one underneath
OWN = ('var', 'bricks', 'data', 'gluster', 'root')    # this machine's, on disk
VAR = ('lib/samba/private', 'lib/glusterd', 'cache/samba', 'log/samba', 'log/glusterfs/bricks', 'log/ctdb', 'lib/ctdb/volatile',
       'lib/ctdb/persistent', 'lib/ctdb/state', 'spool', 'tmp', 'lib/tdbmesh', 'log/tdbmesh', 'lib/dbus', 'lib/nfs/ganesha',
       'log/apache2', 'log/ganesha', 'lib/nfs/sm', 'lib/nfs/sm.bak', 'www/html', 'cache/apache2', 'lib/apache2')


def install_tdbmesh(folder):
    """`cmake --install` into `folder`, as a package would carry it."""
    done = subprocess.run(['cmake', '--install', BUILD, '--prefix', '/usr'], env=dict(os.environ, DESTDIR=folder),
                          capture_output=True, text=True)
    if done.returncode:
        raise LabError('cmake --install failed: ' + done.stderr)


class TextbookLab(Lab):
    def __init__(self, count, flavour, third=None):
        """`third`: 'witness', 'arbiter' or None."""
        super().__init__(count, flavour)
        self.third = third
        self.witness = self.arbiter = self.workstation = None

    @property
    def members(self):
        """The machines in the nodes file."""
        return self.nodes + ([self.witness] if self.witness else [])

    # -- making --

    def _make(self):
        self.package = os.path.join(self.work, 'package')
        os.makedirs(os.path.join(self.package, 'usr/bin'))
        if not self.flavour.is_peer:
            install_tdbmesh(self.package)
        shutil.copy(os.path.join(HERE, 'systemctl'), os.path.join(self.package, 'usr/bin/systemctl'))
        self.switch = Host('switch', full=False)
        for bridge in ('lan', 'world'):
            self.in_switch('ip', 'link', 'add', bridge, 'type', 'bridge', 'forward_delay', '0', 'mcast_snooping', '0')
            self.in_switch('ip', 'link', 'set', bridge, 'up')
        for number in range(self.count):
            self.nodes.append(self._machine(number, 'server%d' % (number + 1)))
        if self.third:
            setattr(self, self.third, self._machine(self.count, self.third))
        self.workstation = self._machine(99, 'workstation')

    def _machine(self, number, name):
        node = Node(self, number)
        node.name = name
        node.top = os.path.join(self.work, name)
        for folder in OWN + LAYERED + ('work',):
            os.makedirs(os.path.join(node.top, folder))
        for folder in VAR:
            os.makedirs(os.path.join(node.top, 'var', folder))
        for source in ('/var/lib/glusterd', os.path.join(self.package, 'var/lib/glusterd')):
            if os.path.isdir(source):
                shutil.copytree(source, os.path.join(node.top, 'var/lib/glusterd'), symlinks=True, dirs_exist_ok=True)
        if os.path.isdir(os.path.join(self.package, 'etc')):
            shutil.copytree(os.path.join(self.package, 'etc'), os.path.join(node.top, 'etc'), dirs_exist_ok=True)
        os.symlink('/run', os.path.join(node.top, 'var/run'))
        os.symlink('/run/lock', os.path.join(node.top, 'var/lock'))
        os.chmod(os.path.join(node.top, 'var/lib/samba/private'), 0o700)
        os.chmod(os.path.join(node.top, 'var/tmp'), 0o1777)
        self._build(node)
        self._furnish(node)
        return node

    def _build(self, node):
        """Root directory and interfaces, at making and again at each power on."""
        root = os.path.join(node.top, 'work', 'root')
        os.makedirs(root, exist_ok=True)
        layer = os.path.join(node.top, 'work', 'etc')
        shutil.rmtree(layer, ignore_errors=True)
        os.makedirs(layer)
        script = ['R=%s' % root, 'mount -t tmpfs -o mode=755 root "$R"', 'cd "$R"',
                  'mkdir usr etc proc sys dev run tmp mnt home old %s' % ' '.join(OWN), 'chmod 1777 tmp',
                  'for link in bin sbin lib lib32 lib64 libx32; do [ -L /$link ] && cp -a /$link . || true; done',
                  'mount -t overlay usr -o lowerdir=%s/usr:/usr usr' % self.package,
                  'mount -t overlay etc -o lowerdir=/etc,upperdir=%s/etc,workdir=%s etc' % (node.top, layer),
                  'mount --rbind /dev dev', 'mount -t tmpfs -o mode=1777 shm dev/shm', 'mount -t proc proc proc',
                  'mount -t sysfs sysfs sys', 'mount -t tmpfs -o mode=755 run run',
                  'mkdir -p run/samba run/lock run/gluster run/ctdb run/systemd/system run/dbus run/apache2 run/ganesha run/rpcbind run/sendsigs.omit.d']
        script += ['mount --bind %s/%s %s' % (node.top, folder, folder) for folder in OWN]
        script += ['pivot_root . old', 'cd /', 'umount -l /old', 'rmdir /old', 'ip link set lo up', 'hostname %s' % node.name]
        done = subprocess.run(node.enter(['sh', '-ec', '\n'.join(script)]), capture_output=True, text=True)
        if done.returncode:
            raise LabError('cannot build %s: %s' % (node.name, done.stderr))
        wires = [('lan', 'port%d', 'eth0', node.address)] if node.name != 'workstation' else []
        if node.name != self.third:
            wires.append(('world', 'pub%d', 'pub0', WORKSTATION if node.number == 99 else '10.99.0.%d' % (node.number + 1)))
        for bridge, port, interface, address in wires:
            port = port % node.number
            # the end of a host that lost its power goes with its namespace, which the kernel takes down in its own time
            subprocess.run(self.switch.enter(['ip', 'link', 'del', port]), capture_output=True)
            self.in_switch('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', interface, 'netns', str(node.init))
            self.in_switch('ip', 'link', 'set', port, 'master', bridge, 'up')
            subprocess.run(node.enter(['sh', '-ec', 'ip addr add %s/24 dev %s; ip link set %s up' % (
                address, interface, interface)]), check=True)

    def _furnish(self, node):
        def write(inside, text):
            os.makedirs(os.path.dirname(node.path(inside)), exist_ok=True)
            with open(node.path(inside), 'w') as out:
                out.write(text)
        write('/etc/hosts', '127.0.0.1 localhost\n' + ''.join(
            '10.98.0.%d server%d\n' % (k + 1, k + 1) for k in range(self.count)) + (
                '10.98.0.%d %s\n' % (self.count + 1, self.third) if self.third else ''))
        write('/etc/hostname', node.name + '\n')
        write('/etc/fstab', '')
        write('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files\n')
        write('/etc/samba/smb.conf', '')
        # what this machine's own administrator has enabled is not the lab's
        for link in glob.glob(node.path('/etc/systemd/system/*.wants/*')):
            os.unlink(link)
        for folder in (self.flavour.config_dir, '/etc/systemd/system'):
            os.makedirs(node.path(folder), exist_ok=True)

    def destroy(self):
        if self.up:
            for machine in (self.witness, self.arbiter, self.workstation):
                if machine:
                    machine.kill()
            self.witness = self.arbiter = self.workstation = None
        super().destroy()

    # -- what can happen to a server --

    def silence(self, node):
        """The plug is pulled: no frame leaves it any more and nothing runs on it."""
        for port in ('port%d' % node.number, 'pub%d' % node.number):
            self.in_switch('ip', 'link', 'set', port, 'down')
        for pid in node.pids():
            _kill(pid, signal.SIGSTOP)
        # An nsenter of ours stops with what it has started there; then nobody would reap that, and the machine not end.
        for pid in children_of(os.getpid()):
            with open('/proc/%d/cmdline' % pid) as words:
                if words.read().startswith('nsenter\0-t\0%d\0' % node.init):
                    _kill(pid, signal.SIGKILL)

    def cable(self, node, plugged):
        """Its cable to the private network. Clients reach it all the same."""
        self.in_switch('ip', 'link', 'set', 'port%d' % node.number, 'up' if plugged else 'down')

    def remove(self, node):
        """What was in its memory is gone for good. Its disk stays."""
        node.kill()

    def power_on(self, node):
        """Everything anew, from its disk; returns when its boot has started what is enabled."""
        name, top = node.name, node.top
        Node.__init__(node, self, node.number)
        node.name, node.top = name, top
        self._build(node)
        return node.run(['systemctl', 'boot'], bound=300, check=False)

    def holders(self, address=FLOATING):
        """Numbers of the servers whose kernel has the address."""
        found = []
        for node in self.nodes:
            if os.path.exists('/proc/%d' % node.init):
                said = subprocess.run(node.enter(['ip', '-o', 'addr', 'show']), capture_output=True, text=True).stdout
                if ' %s/' % address in said:
                    found.append(node.number)
        return found

    def describe(self, nodes=None):
        return super().describe([n for n in (nodes or self.nodes) if os.path.exists('/proc/%d' % n.init)])


__all__ = ['TextbookLab', 'FLOATING', 'WORKSTATION', 'wait_for']
