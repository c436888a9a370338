"""The exercise itself: files are written, the server that has the address goes, the files go on, the server comes back.

    silent    its plug is pulled: nothing is said, and nothing of it runs any more
    orderly   its services are stopped, then it is switched off
    cut       its cable to the other servers is pulled; it runs on, and clients reach it
"""
import re
import subprocess
import threading
import time

import lab
from flavours import LOCK_MOUNT
from lab import wait_for
from workstation import FILES

HALF = FILES // 2


class Watch(threading.Thread):
    """Looks all the time, from now on: when is the cluster in use again without the victim, as a survivor's log says; when
    does another server's kernel have the address; is it ever on two?"""
    def __init__(self, machines, victim, survivor, victim_is_dead):
        super().__init__(daemon=True)
        self.machines, self.victim, self.survivor, self.victim_is_dead = machines, victim, survivor, victim_is_dead
        self.began, self.log_end = time.monotonic(), len(survivor.log())
        self.in_use_after = None         # seconds
        self.moved_after = None
        self.on_two = None               # the servers, if it was
        self.ending = threading.Event()

    def run(self):
        while not self.ending.wait(0.02 if self.moved_after is None else 0.2):
            if self.in_use_after is None and self.machines.flavour.in_use in self.survivor.log()[self.log_end:]:
                self.in_use_after = time.monotonic() - self.began
            holders = self.holders()
            if self.moved_after is None and holders - {self.victim.number}:
                self.moved_after = time.monotonic() - self.began
            # The servers are asked one after the other: only who still has it afterwards had it beside the others.
            if len(holders) > 1 and len(holders & self.holders()) > 1:
                self.on_two = holders

    def holders(self):
        return set(self.machines.holders()) - ({self.victim.number} if self.victim_is_dead else set())

    def end(self):
        self.ending.set()
        self.join()


class LockCheck:
    """`tdbmesh lock check` on two servers, in the background: what an administrator would try before the exercise."""
    def __init__(self, exercise, holder, waiter):
        self.exercise, self.waiter = exercise, waiter
        self.processes = [self.start(holder, 'holds the lock'), self.start(waiter, holder.name + ' (process')]

    def said(self, server):
        return lab._text_of(self.exercise.lab.work + '/%s.lock-check' % server.name)

    def start(self, server, until):
        command = 'tdbmesh -T 300 lock check %s' % self.exercise.flavour.lock
        self.exercise.typed(server, command + ' &')
        with open(self.exercise.lab.work + '/%s.lock-check' % server.name, 'w') as out:
            process = server.popen('exec ' + command, stdout=out, stderr=out)
        wait_for(lambda: until in self.said(server) or process.poll() is not None,
                 lambda: 'lock check on %s: %s' % (server.name, self.said(server)), 30)
        self.exercise.answer(self.said(server))
        return process

    def end(self):
        holder, waiter = self.processes
        holder.wait()       # it went with its server
        try:
            waiter.wait(150 * lab.SLOW)
        except subprocess.TimeoutExpired:
            waiter.kill()
        said = self.said(self.waiter)
        self.exercise.typed(self.waiter, 'fg        (lock check)', said)
        free = re.search(r'GOOD: granted ([0-9.]+) s after', said)
        self.exercise.check('silent: lock check was refused, and granted the lock when the other server was dead',
                            free and waiter.returncode == 0, said)
        if free:
            self.exercise.phase('silent: a lock of the dead server is free, says lock check', float(free.group(1)))


class Fault:
    def __init__(self, exercise, kind, number):
        self.exercise, self.kind, self.number = exercise, kind, number
        self.folder = kind + (str(number + 1) if number else '')     # where its files are
        self.lab, self.flavour, self.station = exercise.lab, exercise.flavour, exercise.station
        self.silently = kind == 'silent'
        # the survivor waits for the lock, and says so
        self.lock_is_awaited = kind != 'orderly' and exercise.lock_decides and not self.flavour.is_peer

    def check(self, text, good, why=''):
        self.exercise.check('%s: %s' % (self.kind, text), good, why)

    def phase(self, name, seconds):
        self.exercise.phase('%s: %s' % (self.kind, name), seconds)

    def run(self):
        exercise = self.exercise
        exercise.title('The exercise%s: the server that holds the address %s' % (
            ' again (%d)' % (self.number + 1) if self.number else '', {
                'silent': 'loses its power', 'orderly': 'is shut down in order', 'cut': 'loses its cable to the others'}[self.kind]))
        self.before()
        watch = Watch(self.lab, self.victim, self.watcher, victim_is_dead=self.silently)
        watch.start()
        self.station.begin_to_watch()
        try:
            self.strike()
            self.await_move(watch)
            self.after(watch)
        finally:
            watch.end()
            unanswered = self.station.end_to_watch()
        for name, seconds in (('cluster in use again, says the log', watch.in_use_after), ('address moved', watch.moved_after),
                              ('longest time without an answer from the address', unanswered),
                              ('first file served again', self.served_after)):
            if seconds is not None:
                self.phase(name, seconds)
        self.check('the address was never on two servers', watch.on_two is None, watch.on_two)
        if self.lock_check:
            self.lock_check.end()
        exercise.story(self.watcher)
        if self.kind == 'cut':
            exercise.type(self.victim, 'timeout 10 %s' % self.flavour.story[0], check=False, bound=20)
        self.bring_back()
        self.judge()

    def before(self):
        exercise = self.exercise
        made = self.station.smb('mkdir %s' % self.folder)
        _, good = self.station.write_files(self.folder, 0, HALF - 1)
        self.check('file00 to file%02d are written through the address' % (HALF - 1), good, made.stdout)
        for service in exercise.services:
            service.exercise_before(exercise, self.kind, self.folder)
        self.victim = exercise.servers[self.lab.holders()[0]]
        self.others = [server for server in exercise.servers if server is not self.victim]
        self.watcher = self.others[0]
        self.lock_check = LockCheck(exercise, self.victim, self.watcher) if self.silently and not self.flavour.is_peer else None
        self.log_ends = {server.number: len(server.log()) for server in self.others}
        self.daemons = {server.number: server.daemon_pid() for server in self.others}

    def strike(self):
        if self.silently:
            self.exercise.remark('the power of %s is cut' % self.victim.name)
            self.lab.silence(self.victim)
        elif self.kind == 'cut':
            self.exercise.remark('the cable between %s and the private network is pulled' % self.victim.name)
            self.lab.cable(self.victim, plugged=False)
        else:
            units = ' '.join([self.flavour.service, 'smbd', 'nmbd'] + [service.unit for service in self.exercise.services])
            self.exercise.type(self.victim, 'systemctl stop %s; umount %s /data; systemctl stop glusterd' % (units, LOCK_MOUNT),
                               check=False, bound=180)
            self.exercise.typed(self.victim, 'poweroff')
            self.lab.remove(self.victim)

    def await_move(self, watch):
        """Until another server has the address; and what status says meanwhile."""
        told = []      # (seconds, what status said)
        while watch.moved_after is None and time.monotonic() - watch.began < 200:
            if self.lock_is_awaited:
                said = self.watcher.run('timeout 10 tdbmesh status -v', check=False, bound=20).stdout
                if 'awaited for' in said:
                    told.append((time.monotonic() - watch.began, said))
            time.sleep(0.1)
        for seconds, said in told[:1] + told[1:][-1:]:
            self.exercise.typed(self.watcher, 'tdbmesh status -v       (%.1f s after the power went)' % seconds, said)
        if self.lock_is_awaited:
            self.check('status says that the lock is awaited, which, and why it is not there', told)
        self.check('the address moved to a server that is up', watch.moved_after is not None)

    def after(self, watch):
        begun_after = time.monotonic() - watch.began
        until_first, good = self.station.write_files(self.folder, HALF, FILES - 1)
        self.served_after = None if until_first is None else begun_after + until_first
        self.check('file%02d to file%02d are written through the address' % (HALF, FILES - 1), good)
        for service in self.exercise.services:
            service.exercise_after(self.exercise, self.kind, self.folder)

    def bring_back(self):
        if self.silently:
            self.lab.remove(self.victim)
        again = 'is plugged in' if self.kind == 'cut' else 'is switched on'
        self.exercise.remark('%s %s again' % (self.victim.name, again))
        began = time.monotonic()
        if self.kind == 'cut':
            self.lab.cable(self.victim, plugged=True)
        else:
            boot = self.lab.power_on(self.victim)
            if boot.returncode or boot.stderr:
                self.exercise.answer(boot.stdout + boot.stderr)
        self.exercise.wait_ok(self.exercise.servers, 240)
        self.phase('back and all OK, from then on', time.monotonic() - began)
        wait_for(self.exercise.is_served, lambda: 'the address to be served\n' + self.lab.describe(), 120)
        self.check('the server came back, all servers are OK', self.lab.all_ok())
        self.exercise.story(self.victim)

    def judge(self):
        wrong = self.station.read_files(self.folder)
        self.check('all %d files are there and right through the address' % FILES, not wrong, 'wrong: %s' % wrong[:5])
        sums = [server.run('cd /data/%s && cat $(seq -f file%%02.0f 0 %d) | md5sum' % (self.folder, FILES - 1), check=False).stdout
                for server in self.exercise.servers]
        self.check('every server has the same %d files' % FILES, sums[0] and len(set(sums)) == 1, sums)
        logs = {server.number: server.log()[self.log_ends[server.number]:] for server in self.others}
        self.check('nobody was banned', not any('anning node' in text or 'is banned' in text for text in logs.values()))
        self.check('the daemons of the others ran on', self.daemons == {s.number: s.daemon_pid() for s in self.others})
        if self.silently and self.exercise.lock_decides:
            self.exercise.type(self.watcher, "grep -hE 'has not responded|isconnect' /var/log/glusterfs/gluster-lock.log "
                               "/var/log/glusterfs/bricks/bricks-lock.log | cut -c1-150 | tail -n 12", check=False)
        self.exercise.typed(self.watcher, 'tail -n 30 %s' % self.flavour.log,
                            '\n'.join(logs[self.watcher.number].splitlines()[-30:]))
        if self.kind == 'orderly' and not self.flavour.is_peer:
            self.check('whoever stayed served on without a break', not any('has lapsed' in text for text in logs.values()))
        waited = 'waiting for the cluster lock ' + self.flavour.lock in logs[self.watcher.number]
        if self.lock_is_awaited:
            self.check('the log says that the lock was waited for, and which', waited)
        elif not self.exercise.lock_decides and not self.flavour.is_peer:
            self.check('the lock was not waited for', not waited)
