"""The textbook exercise of clustered NAS, step by step, from bare servers to the grade. The fault itself is fault.py."""
import re
import time

import lab
import services
from fault import Fault
from flavours import LOCK_GROUP, LOCK_MOUNT
from hosts import FLOATING, WORKSTATION
from lab import wait_for
from transcript import Transcript
from workstation import PASSWORD, USER, Workstation


class Exercise(Transcript):
    def __init__(self, machines, options):
        super().__init__()
        self.lab, self.options, self.flavour = machines, options, machines.flavour
        self.services = services.asked_for(options.services)
        self.station = Workstation(machines.workstation, self, slow_connect=options.vfs_glusterfs)
        self.names = ' '.join(server.name for server in self.servers)
        # two servers alone have no majority without each other
        self.lock_decides = len(machines.members) == 2

    @property
    def servers(self):
        return self.lab.nodes

    def run(self):
        try:
            self.introduce()
            self.storage()
            self.configure()
            self.lock_volume()
            self.account()
            for kind in self.options.faults:
                for number in range(self.options.rounds):
                    Fault(self, kind, number).run()
            if not self.flavour.is_peer:
                self.undo()
        except lab.LabError as error:
            print(error, flush=True)
            self.check('the exercise went on to its end', False, str(error).splitlines()[0])
        third = {'witness': ' and a witness', 'arbiter': ' and an arbiter', None: ''}[self.lab.third]
        return self.show_grade('%s, %d servers%s%s' % (
            self.flavour.name, len(self.servers), third,
            ', lock volume as Gluster ships it' if self.options.default_volume else ''))

    # -- the steps --

    def introduce(self):
        self.title('The machines')
        for number, server in enumerate(self.servers, 1):
            print('%-12s eth0 %s   private: the cluster and GlusterFS\n%12s pub0 10.99.0.%d   public' % (
                server.name, server.address, '', number))
        if self.lab.witness:
            print('%-12s eth0 %s   private: a third vote, nothing else' % (self.lab.witness.name, self.lab.witness.address))
        if self.lab.arbiter:
            print('%-12s eth0 %s   private: names and sizes of the files, for GlusterFS\' own quorum' % (
                self.lab.arbiter.name, self.lab.arbiter.address))
        print('%-12s pub0 %s\n' % ('workstation', WORKSTATION))
        self.remark('clients know %s alone, the floating address: it is on whichever server is alive' % FLOATING)
        if self.options.faults != ('orderly',):
            self.remark('two servers have no majority without each other: when one dies, the other waits for the cluster lock, which '
                        'is free when the lock volume gives the dead server up' if self.lock_decides else
                        'when one of these %d dies the others are a majority: nobody waits for a lock' % len(self.lab.members))

    def storage(self):
        self.title('One pool of storage servers')
        first = self.servers[0]
        pool = self.servers + ([self.lab.arbiter] if self.lab.arbiter else [])
        for machine in pool:
            self.type(machine, 'systemctl enable --now glusterd')
        for other in pool[1:]:
            self.type(first, 'gluster --mode=script peer probe %s' % other.name)
        wait_for(lambda: first.run('gluster pool list').stdout.count('Connected') == len(pool), 'the pool', 60)
        self.type(first, 'gluster pool list')
        self.title('The data: a replicated volume, mounted everywhere')
        self.create_volume('data')
        self.remark('a server that is silent for 3 s is given up by the others\' mounts; Samba is configured here, not by Gluster')
        for setting in ('network.ping-timeout 3', 'client.tcp-user-timeout 3', 'user.smb disable'):
            self.type(first, 'gluster volume set data %s' % setting)
        self.type(first, 'gluster volume start data')
        self.on_all('mkdir -p /data; echo "%SELF:/data /data glusterfs _netdev 0 0" >>/etc/fstab; mount /data')
        self.type(first, 'chmod 1777 /data')
        self.check('the data volume is mounted on %s' % self.names, all(self.is_mounted(s, '/data') for s in self.servers))

    def configure(self):
        self.title('Configuration, the same on all servers')
        folder = self.flavour.config_dir
        self.edit(self.lab.members, folder + '/nodes', ''.join(m.address + '\n' for m in self.lab.members))
        self.edit(self.servers, folder + '/public_addresses', '%s/24 pub0\n' % FLOATING)
        self.flavour.configure_servers(self)
        self.edit(self.servers, '/etc/samba/smb.conf', self.smb_conf())
        self.on_all('useradd -M -u 2001 -s /usr/sbin/nologin %s' % USER)
        for service in self.services:
            self.title('Beside SMB: %s' % service.name)
            service.configure(self)
            self.flavour.switch_on(service, self)

    def smb_conf(self):
        share = ('\tpath = /\n\tvfs objects = glusterfs\n\tglusterfs:volume = data\n\tkernel share modes = no\n'
                 if self.options.vfs_glusterfs else '\tpath = /data\n')
        return ''.join((
            '[global]\n\tworkgroup = LAB\n\tnetbios name = LAB\n\tsecurity = user\n\tclustering = yes\n',
            ''.join('\t%s\n' % line for line in self.flavour.samba_options),
            '\tprivate dir = /var/lib/samba/private\n\tpassdb backend = tdbsam\n\tidmap config * : backend = tdb2\n',
            '\tidmap config * : range = 1000000-1999999\n\tdisable spoolss = yes\n\tload printers = no\n',
            '[data]\n', share, '\tread only = no\n\tvalid users = %s\n' % USER))

    def lock_volume(self):
        self.title('The lock: a small replicated volume of its own')
        first, service = self.servers[0], self.flavour.service
        self.create_volume('lock')
        if not self.options.default_volume:
            self.flavour.prepare_lock_group(self.servers)
            self.type(first, 'gluster volume set lock group %s' % LOCK_GROUP)
        began = time.monotonic()
        self.type(first, 'gluster volume start lock', bound=300)
        self.flavour.after_lock_volume(self)
        self.wait_ok(self.servers, 240)
        self.phase('start of the cluster', time.monotonic() - began)
        self.on_all('grep gluster/ /etc/fstab; systemctl is-enabled %s; systemctl is-active %s' % (service, service), check=False)
        self.check('the lock volume is mounted and the daemon enabled on %s' % self.names,
                   all(self.is_mounted(s, LOCK_MOUNT) and self.is_enabled(s) for s in self.servers))
        self.check('all servers are OK', self.lab.all_ok(expect=self.lab.members))
        wait_for(self.is_served, lambda: 'smbd behind the address\n' + self.lab.describe(), 120)
        self.check('the floating address is on exactly one server', len(self.lab.holders()) == 1)
        self.story(first)
        if not self.flavour.is_peer:
            said = first.run('tdbmesh status -v', check=False).stdout
            self.check('status names the lock and who holds it', re.search(
                r'^Cluster lock:%s, held by node \d' % re.escape(self.flavour.lock), said, re.M), said)

    def account(self):
        self.title('An account, on one server only')
        first, last = self.servers[0], self.servers[-1]
        self.type(first, "printf '%s\\n%s\\n' | %ssmbpasswd -s -a %s" % (PASSWORD, PASSWORD, self.flavour.preload, USER))
        said = self.type(last, '%spdbedit -L' % self.flavour.preload, check=False).stdout
        self.check('the account typed on %s is known on %s' % (first.name, last.name), USER in said)

    def undo(self):
        self.title('The lock volume is stopped: the hooks undo what they did')
        # A volume that is stopped calls the hooks of the servers that GlusterFS is connected with; one that came back may not be yet.
        self.until(lambda: 'Disconnected' not in self.servers[0].run('gluster pool list').stdout)
        self.type(self.servers[0], 'gluster pool list')
        self.type(self.servers[0], 'gluster --mode=script volume stop lock', bound=300)

        def undone(server):
            return LOCK_MOUNT not in server.run('cat /etc/fstab; mount -t fuse.glusterfs').stdout and \
                not self.is_enabled(server) and server.daemon_pid() is None
        self.check('unmounted, out of /etc/fstab, tdbmesh stopped and disabled on %s' % self.names,
                   self.until(lambda: all(undone(s) for s in self.servers)) is not None)
        self.on_all('cat /etc/fstab; systemctl is-enabled tdbmesh', check=False)

    # -- what several steps need --

    def on_all(self, command, **options):
        for server in self.servers:
            self.type(server, command.replace('%SELF', server.name), **options)

    def create_volume(self, name):
        bricks = ' '.join('%s:/bricks/%s' % (server.name, name) for server in self.servers)
        copies = 'replica %d' % len(self.servers)
        if self.lab.arbiter:
            copies, bricks = copies + ' arbiter 1', '%s %s:/bricks/%s' % (bricks, self.lab.arbiter.name, name)
        self.type(self.servers[0], 'gluster --mode=script volume create %s %s %s force' % (name, copies, bricks))

    def is_mounted(self, server, where):
        return where in server.run('mount -t fuse.glusterfs').stdout

    def is_enabled(self, server):
        return server.run('systemctl is-enabled %s' % self.flavour.service, check=False).returncode == 0

    def is_served(self):
        return len(self.lab.holders()) == 1 and self.station.reaches_smb()

    def wait_ok(self, servers, bound):
        wait_for(lambda: self.lab.all_ok(servers, self.lab.members), lambda: 'all to be OK\n' + self.lab.describe(), bound, 0.1)

    def until(self, condition, bound=90):
        """Tries until it is so; the time it took, or None."""
        began = time.monotonic()
        while time.monotonic() - began < bound * lab.SLOW:
            if condition():
                return time.monotonic() - began
            time.sleep(0.2)
        return None

    def story(self, machine):
        for command in self.flavour.story:
            self.type(machine, command, check=False, bound=60)
