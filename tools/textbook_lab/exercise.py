#!/usr/bin/python3 -B
"""The textbook exercise of clustered NAS, from bare machines to the grade. tools/lab calls this; see there for options.

Each command is printed as it would be typed, with the machine's name before it, then what it said. At the end stand the
grade, one line a check, and how long each phase took. The exit status is 0 if every check succeeded, 77 if this
machine cannot run it.
"""
import argparse
import os
import re
import subprocess
import sys
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(TREE, 'tests', 'integration'), os.path.dirname(os.path.abspath(__file__))]

import lab  # noqa: E402
import services  # noqa: E402
from hosts import FLOATING, TextbookLab, wait_for  # noqa: E402

USER, PASSWORD = 'smbuser', 'Secret-1'
LOCK_MOUNT = '/gluster/lock'
FILES = 100


class Ours(lab.Tdbmesh):
    log = '/var/log/tdbmesh/log.tdbmesh'
    service, lock, script = 'tdbmesh', LOCK_MOUNT + '/tdbmesh.lock', '50.smbd'
    preload = 'LD_PRELOAD=libtdbmesh-tdb.so '

    def environment(self, machines):
        return lab.Flavour.environment(self, machines)


class Theirs(lab.RealCtdb):
    service, lock, script = 'ctdb', LOCK_MOUNT + '/ctdb.lock', '50.samba'
    preload = ''


def text_of_file(number):
    return 'file%02d %s\n' % (number, 'x' * (number * 37 % 4000))


class Exercise:
    def __init__(self, machines, options):
        self.lab, self.options, self.flavour = machines, options, machines.flavour
        self.tool = self.flavour.tool
        self.services = services.asked_for(options.services)
        self.grade, self.phases = [], []
        self.names = ' '.join(n.name for n in self.servers)
        # two servers alone have no majority without each other
        self.lock_decides = len(machines.members) == 2

    @property
    def servers(self):
        return self.lab.nodes

    # -- saying and doing --

    def title(self, text):
        print('\n==== %s' % text, flush=True)

    def type(self, machine, command, check=True, bound=120, show=True):
        print('%s# %s' % (machine.name, command.replace('\n', '\n> ')), flush=True)
        done = machine.run(command, check=False, bound=bound)
        said = (done.stdout + done.stderr).rstrip()
        if said and show:
            print('    ' + said.replace('\n', '\n    '), flush=True)
        if check and done.returncode:
            raise lab.LabError('%s: "%s" failed (%d)' % (machine.name, command, done.returncode))
        return done

    def on_all(self, command, **options):
        for server in self.servers:
            self.type(server, command.replace('%SELF', server.name), **options)

    def edit(self, machines, path, text):
        for machine in machines:
            print('%s# cat >%s <<END' % (machine.name, path))
            os.makedirs(os.path.dirname(machine.path(path)), exist_ok=True)
            with open(machine.path(path), 'w') as out:
                out.write(text)
        print('    ' + text.rstrip().replace('\n', '\n    ') + '\nEND', flush=True)

    def check(self, text, good, why=''):
        self.grade.append((text, bool(good)))
        print('%s: %s%s' % ('SUCCESS' if good else 'FAIL', text, ' (%s)' % why if why and not good else ''), flush=True)

    def phase(self, name, seconds):
        self.phases.append((name, seconds))
        print('    [%s: %.1f s]' % (name, seconds), flush=True)

    def story(self, machine):
        verbose = '' if self.flavour.is_peer else ' -v'
        for command in ('%s status%s' % (self.tool, verbose), '%s ip' % self.tool, '%s -n all ip' % self.tool,
                        '%s ping -n all' % self.tool):
            self.type(machine, command, check=False, bound=60)

    def up(self):
        return [s for s in self.servers if os.path.exists('/proc/%d' % s.init)]

    # -- the steps --

    def storage(self):
        self.title('One pool of storage servers')
        self.on_all('systemctl enable --now glusterd')
        first = self.servers[0]
        for other in self.servers[1:]:
            self.type(first, 'gluster --mode=script peer probe %s' % other.name)
        wait_for(lambda: first.run('gluster pool list').stdout.count('Connected') == len(self.servers), 'the pool', 60)
        self.type(first, 'gluster pool list')
        self.title('The data: a replicated volume, mounted everywhere')
        bricks = ' '.join('%s:/bricks/data' % s.name for s in self.servers)
        self.type(first, 'gluster --mode=script volume create data replica %d %s force' % (len(self.servers), bricks))
        for setting in ('network.ping-timeout 3', 'client.tcp-user-timeout 3', 'user.smb disable'):
            self.type(first, 'gluster volume set data %s' % setting)
        self.type(first, 'gluster volume start data')
        self.on_all('mkdir -p /data; echo "%SELF:/data /data glusterfs _netdev 0 0" >>/etc/fstab; mount /data')
        self.type(first, 'chmod 1777 /data')
        self.check('the data volume is mounted on %s' % self.names,
                   all('/data' in s.run('mount -t fuse.glusterfs').stdout for s in self.servers))

    def configure(self):
        self.title('Configuration, the same on all servers')
        folder = self.flavour.config_dir
        self.edit(self.lab.members, folder + '/nodes', ''.join(m.address + '\n' for m in self.lab.members))
        self.edit(self.servers, folder + '/public_addresses', '%s/24 pub0\n' % FLOATING)
        if self.flavour.is_peer:
            self.edit(self.servers, folder + '/ctdb.conf', '[logging]\n\tlocation = file:%s\n[cluster]\n\tcluster lock = %s\n' % (
                self.flavour.log, self.flavour.lock))
            self.on_all('mkdir -p /etc/ctdb/events/legacy; ctdb event script enable legacy %s' % self.flavour.script)
            for service in self.services:
                if service.peer_script:
                    self.on_all('ctdb event script enable legacy %s' % service.peer_script)
        else:
            self.edit(self.servers, folder + '/tdbmesh.conf', '[cluster]\n\tcluster lock = %s\n[checks]\n%s' % (
                self.flavour.lock, ''.join('\t%s\n' % check for check in
                                           ['smb = smb 127.0.0.1:445'] + [service.check for service in self.services])))
            first = self.servers[0]
            self.type(first, 'tdbmesh keygen %s/cluster.key' % folder)
            with open(first.path(folder + '/cluster.key'), 'rb') as key:
                content = key.read()
            for other in self.lab.members[1:]:
                print('%s# scp -p %s/cluster.key %s:%s/' % (first.name, folder, other.name, folder))
                with open(other.path(folder + '/cluster.key'), 'wb') as out:
                    out.write(content)
                os.chmod(other.path(folder + '/cluster.key'), 0o600)
            for script in [self.flavour.script] + [service.script for service in self.services]:
                self.on_all('tdbmesh event script enable legacy %s' % script)
            self.edit(self.servers, '/etc/default/tdbmesh', 'META=lock\n')
            if self.lab.witness:
                self.edit([self.lab.witness], folder + '/tdbmesh.conf', '[cluster]\n\twitness = true\n')
                self.type(self.lab.witness, 'systemctl enable --now tdbmesh')
        share = ('\tpath = /\n\tvfs objects = glusterfs\n\tglusterfs:volume = data\n\tkernel share modes = no\n'
                 if self.options.vfs_glusterfs else '\tpath = /data\n')
        self.edit(self.servers, '/etc/samba/smb.conf', ''.join((
            '[global]\n\tworkgroup = LAB\n\tnetbios name = LAB\n\tsecurity = user\n\tclustering = yes\n',
            '' if self.flavour.is_peer else '\tctdbd socket = /run/tdbmesh/ctdbd.socket\n',
            '\tprivate dir = /var/lib/samba/private\n\tpassdb backend = tdbsam\n\tidmap config * : backend = tdb2\n',
            '\tidmap config * : range = 1000000-1999999\n\tdisable spoolss = yes\n\tload printers = no\n',
            '[data]\n', share, '\tread only = no\n\tvalid users = %s\n' % USER)))
        self.on_all('useradd -M -u 2001 -s /usr/sbin/nologin %s' % USER)
        for service in self.services:
            self.title('Beside SMB: %s' % service.name)
            service.configure(self)
            if self.flavour.is_peer and not service.peer_script:
                self.on_all('systemctl enable --now %s' % service.unit, check=False)

    def lock_volume(self):
        self.title('The lock: a small replicated volume of its own')
        first = self.servers[0]
        bricks = ' '.join('%s:/bricks/lock' % s.name for s in self.servers)
        self.type(first, 'gluster --mode=script volume create lock replica %d %s force' % (len(self.servers), bricks))
        if not self.options.default_volume:
            group = 'tdbmesh-lock'
            if self.flavour.is_peer:        # the same settings for both
                for s in self.servers:
                    with open(os.path.join(TREE, 'tools/gluster/tdbmesh-lock.group')) as text, \
                            open(s.path('/var/lib/glusterd/groups/' + group), 'w') as out:
                        out.write(text.read())
            self.type(first, 'gluster volume set lock group %s' % group)
        began = time.monotonic()
        self.type(first, 'gluster volume start lock', bound=300)
        if self.flavour.is_peer:
            self.on_all('mkdir -p %s; echo "%%SELF:/lock %s glusterfs _netdev 0 0" >>/etc/fstab; mount %s' % (
                (LOCK_MOUNT,) * 3))
            self.on_all('systemctl enable --now ctdb', bound=300)
        self.wait_ok(self.servers, 240)
        self.phase('start of the cluster', time.monotonic() - began)
        for s in self.servers:
            self.type(s, 'grep gluster/ /etc/fstab; systemctl is-enabled %s; systemctl is-active %s' % (
                (self.flavour.service,) * 2), check=False)
        self.check('the lock volume is mounted and %s enabled on %s%s' % (
            self.flavour.service, self.names, '' if self.flavour.is_peer else ", by tdbmesh's Gluster hooks"),
            all(LOCK_MOUNT in s.run('mount -t fuse.glusterfs').stdout and
                s.run('systemctl is-enabled %s' % self.flavour.service, check=False).returncode == 0 for s in self.servers))
        self.check('all servers are OK', self.lab.all_ok(expect=self.lab.members))
        wait_for(lambda: self.serving() is not None, lambda: 'smbd behind the address\n' + self.lab.describe(), 120)
        self.check('the floating address is on exactly one server', len(self.lab.holders()) == 1)
        self.story(first)
        if not self.flavour.is_peer:
            said = first.run('tdbmesh status -v', check=False).stdout
            self.check('status names the lock and who holds it', re.search(
                r'^Cluster lock:%s, held by node \d' % re.escape(self.flavour.lock), said, re.M), said)

    def accounts(self):
        self.title('An account, on one server only')
        first, last = self.servers[0], self.servers[-1]
        self.type(first, "printf '%s\\n%s\\n' | %ssmbpasswd -s -a %s" % (PASSWORD, PASSWORD, self.flavour.preload, USER))
        said = self.type(last, '%spdbedit -L' % self.flavour.preload, check=False).stdout
        self.check('the account typed on %s is known on %s' % (first.name, last.name), USER in said)

    # -- the other services --

    def until(self, condition, bound=90):
        """Tries until it is so; the time it took, or None."""
        began = time.monotonic()
        while time.monotonic() - began < bound * lab.SLOW:
            if condition():
                return time.monotonic() - began
            time.sleep(0.2)
        return None

    def serve(self, kind, when):
        """Each service through the floating address: what the client leaves now, and what it left before the fault."""
        for service in self.services:
            word = '%s-%s' % (kind, when)
            good = self.until(lambda: service.get(self, '%s-before' % kind)) if when == 'after' else 0
            good = good is not None and self.until(lambda: service.put(self, word)) is not None and \
                self.until(lambda: service.get(self, word)) is not None
            self.check('%s: %s is served through %s %s the fault' % (kind, service.name, FLOATING, when), good)

    # -- the workstation --

    def smb(self, command, bound=20):
        return self.lab.workstation.run(['timeout', '-s', 'KILL', str(bound), 'smbclient', '-s', '/dev/null', '//%s/data' % FLOATING, '-U',
                                         '%s%%%s' % (USER, PASSWORD), '-c', command], check=False, bound=bound + 10)

    def serving(self):
        """The server whose smbd answers at the floating address, or None."""
        holders = self.lab.holders()
        if len(holders) != 1:
            return None
        server = self.servers[holders[0]]
        done = self.lab.workstation.run(['timeout', '1', 'bash', '-c', 'exec 3<>/dev/tcp/%s/445' % FLOATING], check=False)
        return server if done.returncode == 0 else None

    def write_files(self, folder, first, last, patience=150):
        """Writes until each file is there; the time until the first one was, and whether all were."""
        station, began, until_first = self.lab.workstation, time.monotonic(), None
        for number in range(first, last + 1):
            with open(station.path('/root/file%02d' % number), 'w') as out:
                out.write(text_of_file(number))
        print("workstation# for k in $(seq -w %02d %02d); do smbclient //%s/data -U %s -c \"cd %s; lcd /root; put file$k\"; done" % (
            first, last, FLOATING, USER, folder), flush=True)
        # A call that began with the dead server is not worth waiting for; but libgfapi alone takes seconds to connect.
        first_call = 20 if self.options.vfs_glusterfs else 4
        number, tries = first, 0
        while number <= last and time.monotonic() - began < patience:
            tries += 1
            batch = '; '.join('put file%02d' % n for n in range(number, min(last, number + (0 if until_first is None else 9)) + 1))
            done = self.smb('cd %s; lcd /root; %s' % (folder, batch), first_call if until_first is None else 30)
            put = len(re.findall(r'^putting file', done.stdout + done.stderr, re.M)) if done.returncode == 0 else 0
            if put == 0:
                time.sleep(0.1)
                continue
            until_first = until_first if until_first is not None else time.monotonic() - began
            number += put
        print('    %d files written, %d calls of smbclient%s' % (
            number - first, tries, '' if until_first is None else ', the first was there after %.1f s' % until_first), flush=True)
        return until_first, number > last

    def read_files(self, folder):
        """Names of the files that are not there or not right, read through the floating address."""
        station = self.lab.workstation
        station.run('rm -rf /root/back; mkdir /root/back')
        print('workstation# smbclient //%s/data -U %s -c "cd %s; lcd /root/back; prompt; mget file*"' % (FLOATING, USER, folder))
        self.smb('cd %s; lcd /root/back; prompt; mget file*' % folder, 60)
        return [n for n in range(FILES) if station.read('/root/back/file%02d' % n) != text_of_file(n)]

    # -- the fault --

    def begin_lock_check(self, victim, watcher):
        """`lock check` on two servers, in the background: (holder, waiter, file of what the waiter says)."""
        processes = []
        for server, until in ((victim, 'holds the lock'), (watcher, victim.name + ' (process')):
            said = os.path.join(self.lab.work, server.name + '.lock-check')
            print('%s# tdbmesh -T 300 lock check %s &' % (server.name, self.flavour.lock), flush=True)
            with open(said, 'w') as out:
                process = server.popen('exec tdbmesh -T 300 lock check ' + self.flavour.lock, stdout=out, stderr=out)
            wait_for(lambda: until in lab._text_of(said) or process.poll() is not None, 'lock check on ' + server.name, 30)
            print('    ' + lab._text_of(said).rstrip().replace('\n', '\n    '), flush=True)
            processes.append(process)
        return processes + [said]

    def end_lock_check(self, watcher, holder, process, said):
        holder.wait()       # it went with its server
        try:
            process.wait(150 * lab.SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
        text = lab._text_of(said)
        print('%s# fg        (lock check)\n    %s' % (watcher.name, text.rstrip().replace('\n', '\n    ')), flush=True)
        free = re.search(r'GOOD: granted ([0-9.]+) s after', text)
        self.check('silent: lock check on %s was refused, and granted the lock when the other server was dead' % watcher.name,
                   free and process.returncode == 0, text)
        if free:
            self.phase('silent: a lock of the dead server is free, says lock check', float(free.group(1)))

    def wait_ok(self, servers, bound=120):
        wait_for(lambda: self.lab.all_ok(servers, self.lab.members), lambda: 'all to be OK\n' + self.lab.describe(), bound, 0.1)

    def fault(self, kind):
        silently = kind == 'silent'
        folder = kind
        self.title('The exercise: %s' % ('the plug of the server that holds the address is pulled' if silently else
                                         'the server that holds the address is shut down in order'))
        made = self.smb('mkdir %s' % folder)
        first, good = self.write_files(folder, 0, FILES // 2 - 1)
        self.check('%s: file00 to file49 are written through %s' % (kind, FLOATING), good, made.stdout)
        self.serve(kind, 'before')
        victim = self.servers[self.lab.holders()[0]]
        others = [s for s in self.servers if s is not victim]
        watcher = others[0]
        lock_check = self.begin_lock_check(victim, watcher) if silently and not self.flavour.is_peer else None
        logs = {s.number: len(s.log()) for s in others}
        daemons = {s.number: s.daemon_pid() for s in others}
        began = time.monotonic()
        if silently:
            print('(the power of %s is cut)' % victim.name, flush=True)
            self.lab.silence(victim)
        else:
            units = ' '.join([self.flavour.service, 'smbd', 'nmbd'] + [service.unit for service in self.services])
            self.type(victim, 'systemctl stop %s; umount %s /data; systemctl stop glusterd' % (units, LOCK_MOUNT),
                      check=False, bound=180)
            print('%s# poweroff' % victim.name, flush=True)
            self.lab.remove(victim)
        twice, told, moved = False, '', None
        # who has the address, and what status says meanwhile
        while moved is None and time.monotonic() - began < 200:
            holders = [n for n in self.lab.holders() if n != victim.number]
            twice = twice or len(holders) > 1
            if holders:
                moved = time.monotonic() - began
                break
            if silently and self.lock_decides and not self.flavour.is_peer and 'awaited for' not in told:
                told = watcher.run('timeout 10 tdbmesh -v status', check=False, bound=20).stdout
            time.sleep(0.02)
        if told and self.lock_decides:
            print('%s# tdbmesh status -v       (while it waits)\n    %s' % (watcher.name, told.rstrip().replace('\n', '\n    ')))
        self.check('%s: the address moved to a server that is up' % kind, moved is not None)
        if moved is not None:
            self.phase('%s: address moved' % kind, moved)
        until_first, good = self.write_files(folder, FILES // 2, FILES - 1)
        served = time.monotonic() - began
        if until_first is not None:
            self.phase('%s: first file served again' % kind, until_first + (moved or 0))
        self.check('%s: file50 to file99 are written through %s' % (kind, FLOATING), good)
        self.serve(kind, 'after')
        self.check('%s: the address was never on two servers' % kind, not twice)
        if lock_check:
            self.end_lock_check(watcher, *lock_check)
        self.story(watcher)
        if silently:
            self.lab.remove(victim)
        print('(%s is switched on again)' % victim.name, flush=True)
        began = time.monotonic()
        said = self.lab.power_on(victim)
        if said.returncode or said.stderr:
            print('    ' + (said.stdout + said.stderr).rstrip().replace('\n', '\n    '), flush=True)
        self.wait_ok(self.servers, 240)
        self.phase('%s: back and all OK, from power on' % kind, time.monotonic() - began)
        wait_for(lambda: self.serving() is not None, lambda: 'the address to be served\n' + self.lab.describe(), 120)
        self.check('%s: %s came back, all servers are OK' % (kind, victim.name), self.lab.all_ok())
        self.story(victim)
        wrong = self.read_files(folder)
        self.check('%s: all 100 files are there and right through the address' % kind, not wrong, 'wrong: %s' % wrong[:5])

        def healed():
            return all(s.run('cd /data/%s && cat $(seq -f file%%02.0f 0 %d) | md5sum' % (folder, FILES - 1), check=False).stdout ==
                       watcher.run('cd /data/%s && cat $(seq -f file%%02.0f 0 %d) | md5sum' % (folder, FILES - 1)).stdout
                       for s in self.servers)
        self.check('%s: every server has the same 100 files' % kind, healed())
        logs = {s.number: s.log()[logs[s.number]:] for s in others}
        self.check('%s: nobody was banned' % kind, not any('anning node' in t or 'is banned' in t for t in logs.values()))
        self.check('%s: the daemons of the others ran on' % kind, daemons == {s.number: s.daemon_pid() for s in others})
        if silently and self.lock_decides:
            self.type(watcher, "grep -hE 'has not responded|isconnect' /var/log/glusterfs/gluster-lock.log "
                      "/var/log/glusterfs/bricks/bricks-lock.log | cut -c1-150 | tail -n 12", check=False)
        print('%s# tail %s' % (watcher.name, self.flavour.log))
        for line in logs[watcher.number].splitlines()[-30:]:
            print('    ' + line)
        if silently and not self.flavour.is_peer and self.lock_decides:
            self.check('silent: the log says that the lock was waited for, and which',
                       'waiting for the cluster lock ' + self.flavour.lock in logs[watcher.number])
        return served

    def undo(self):
        self.title('The lock volume is stopped: the hooks undo what they did')
        self.type(self.servers[0], 'gluster --mode=script volume stop lock', bound=300)

        def undone(server):
            return LOCK_MOUNT not in server.run('cat /etc/fstab; mount -t fuse.glusterfs').stdout and \
                server.run('systemctl is-enabled tdbmesh', check=False).returncode != 0 and server.daemon_pid() is None
        self.check('unmounted, out of /etc/fstab, tdbmesh stopped and disabled on %s' % self.names,
                   self.until(lambda: all(undone(s) for s in self.servers)) is not None)
        self.on_all('cat /etc/fstab; systemctl is-enabled tdbmesh', check=False)

    def run(self):
        try:
            self.storage()
            self.configure()
            self.lock_volume()
            self.accounts()
            for kind in self.options.faults:
                self.fault(kind)
            if not self.flavour.is_peer:
                self.undo()
        except lab.LabError as error:
            print(error, flush=True)
            self.check('the exercise went on to its end', False, str(error).splitlines()[0])
        self.title('Grade: %s, %d servers%s%s' % (
            self.flavour.name, len(self.servers), ' and a witness' if self.lab.witness else '',
            ', lock volume as Gluster ships it' if self.options.default_volume else ''))
        for text, good in self.grade:
            print('%-8s %s' % ('SUCCESS' if good else 'FAIL', text))
        print()
        for name, seconds in self.phases:
            print('%7.1f s  %s' % (seconds, name))
        good = all(good for _, good in self.grade)
        print('\n%d of %d checks succeeded' % (sum(g for _, g in self.grade), len(self.grade)), flush=True)
        return good


def side_by_side(runs):
    print('\n==== Side by side\n%-76s %s' % ('', '  '.join('%10s' % e.flavour.name for e in runs)))
    for what, of in (('grade', lambda e: {t: 'SUCCESS' if g else 'FAIL' for t, g in e.grade}),
                     ('phases', lambda e: {n: '%.1f s' % s for n, s in e.phases})):
        tables = [of(e) for e in runs]
        names = list(dict.fromkeys(name for table in tables for name in table))
        for name in names:
            print('%-76s %s' % (name[:76], '  '.join('%10s' % t.get(name, '-') for t in tables)))
    sys.stdout.flush()


def why_not_here(wanted):
    reason = lab.why_not_here()
    if reason:
        return reason
    for program, package in (('glusterd', 'glusterfs-server'), ('mount.glusterfs', 'glusterfs-client'), ('smbd', 'samba'),
                             ('smbclient', 'smbclient')):
        if subprocess.run(['which', program], capture_output=True).returncode:
            return 'needs the package %s (%s is not installed)' % (package, program)
    missing = sorted({package for service in wanted for package in service.missing()})
    if missing:
        return 'needs the packages %s' % ' '.join(missing)
    if not os.path.exists('/dev/fuse'):
        return 'needs /dev/fuse (modprobe fuse)'
    return None


def main():
    parser = argparse.ArgumentParser(prog='tools/lab', description='The textbook lab of clustered NAS: storage servers, a '
                                     'floating address, the plug pulled, a grade.')
    parser.add_argument('--nodes', type=int, choices=(2, 3), default=2, help='number of servers (2)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--silent', dest='faults', action='store_const', const=('silent',), help='only the pulled plug')
    which.add_argument('--orderly', dest='faults', action='store_const', const=('orderly',), help='only the orderly shutdown')
    parser.set_defaults(faults=('silent', 'orderly'))
    parser.add_argument('--default-volume', action='store_true', help='leave the lock volume as Gluster ships it')
    parser.add_argument('--witness', action='store_true', help='a third machine that only votes: with two servers the lock is '
                        'then not waited for')
    parser.add_argument('--vfs-glusterfs', action='store_true', help='Samba uses libgfapi in place of the mount')
    parser.add_argument('--with', dest='services', default='', metavar='SERVICE,...',
                        help='serve these too: %s, or all' % ', '.join(services.ALL))
    parser.add_argument('--keep', action='store_true', help='leave the machines up until Enter or Ctrl-C')
    parser.add_argument('--peer', action='store_true', help='then the same with the real CTDB, and both side by side')
    parser.add_argument('--only-peer', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.witness and options.nodes != 2:
        parser.error('--witness: three servers have a majority without one')
    try:
        wanted = services.asked_for(options.services)
    except ValueError as error:
        parser.error(str(error))
    reason = why_not_here(wanted)
    if reason is None and (options.peer or options.only_peer) and not os.path.exists('/usr/sbin/ctdbd'):
        reason = 'needs the package ctdb for --peer'
    if reason:
        print('skipped: ' + reason)
        return lab.SKIP_STATUS
    runs, good = [], True
    try:
        for make in ([] if options.only_peer else [Ours]) + ([Theirs] if options.peer or options.only_peer else []):
            flavour = Theirs(cluster_lock=Theirs.lock, tunables=()) if make is Theirs else Ours()
            with TextbookLab(options.nodes, flavour, options.witness and make is Ours) as machines:
                exercise = Exercise(machines, options)
                ended_well = exercise.run()
                if make is Ours or options.only_peer:
                    good = good and ended_well
                runs.append(exercise)
                if options.keep:
                    for machine in machines.nodes + [machines.workstation]:
                        print('%s:  %s' % (machine.name, ' '.join(machine.enter(['bash']))))
                    print('Enter ends it and removes everything.', flush=True)
                    sys.stdin.readline()
    except KeyboardInterrupt:
        print('\ninterrupted; everything is removed')
        return 130
    except lab.LabError as error:
        print('tools/lab: %s' % error, file=sys.stderr)
        return 1
    if len(runs) > 1:
        side_by_side(runs)
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
