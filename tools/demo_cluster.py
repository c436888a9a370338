"""The steps of tools/demo: real clusters in namespaces, each command as typed, its output and what it shows."""
import os
import random
import re
import signal
import subprocess
import sys
import time

import lab as laboratory
from lab import BIN, ROOT, Lab, LabError, asked_for_peer, children_of, flavour_asked_for, wait_for

PASSWORD = 'Secret-1'


class Wrong(Exception):
    pass


class Demo:
    def __init__(self):
        self.step_number = 0

    # -- narration --

    def step(self, title):
        self.step_number += 1
        print('\n== %d. %s' % (self.step_number, title), flush=True)

    def shows(self, what, true=True):
        """The sentence a step is there for. False ends the demo."""
        print('   -> %s%s' % ('' if true else 'NOT TRUE: ', what), flush=True)
        if not true:
            raise Wrong(what)

    def type(self, node, command, input=None, check=True, lines=12, bound=120):
        """Runs a shell command in a node as an operator would, and prints both."""
        print('node%d# %s' % (node.number, command if input is None else "printf '%s' | %s" % (
            input.replace('\n', '\\n'), command)), flush=True)
        result = node.samba(command, input=input, check=False, bound=bound)
        said = (result.stdout + result.stderr).rstrip('\n').splitlines()
        for line in said[:lines]:
            print('   ' + line)
        if len(said) > lines:
            print('   ... (%d lines more)' % (len(said) - lines))
        if check and result.returncode:
            raise Wrong('that command failed (%d)' % result.returncode)
        return result

    def remark(self, text):
        print('# ' + text, flush=True)

    # -- small helpers --

    def add_user(self, node, user):
        return self.type(node, 'pdbedit -a -t -u %s' % user, input='%s\n%s\n' % (PASSWORD, PASSWORD), lines=2)

    def users(self, node):
        listed = node.samba(['pdbedit', '-L', '-w']).stdout
        return {line.split(':')[0]: line.split(':')[3] for line in listed.splitlines() if line.count(':') >= 5}

    def digests_equal(self, lab, what):
        for database, seen in sorted(lab.digests().items()):
            print('   %-24s %s' % (database, '  '.join('%s on %s' % (digest[:16], ','.join('node%d' % pnn for pnn in pnns))
                                                      for digest, pnns in seen.items())))
        self.shows(what, all(len(seen) == 1 for seen in lab.digests().values()))

    # -- the steps --

    def run(self):
        self.tool = flavour_asked_for().tool
        with Lab(3) as lab:
            self.start_three(lab)
            self.accounts(lab)
            self.many_users(lab)
            self.node_death(lab)
            self.killed_clients(lab)
            self.records(lab)
            self.same_output(lab)
            if not asked_for_peer():
                self.cut_off(lab)
                self.strangers(lab)
        self.two_nodes()
        if not asked_for_peer():
            self.two_nodes_without_a_lock()

    def start_three(self, lab):
        self.step('Three nodes: one daemon each, started together')
        self.remark('each node: its own network, mounts, processes, /var/lib, /run; %s' % ', '.join(
            '%s = %s' % (node.name, node.address) for node in lab.nodes))
        print('node*# ' + ' '.join(os.path.basename(part) if part.startswith(BIN) else part
                                   for part in lab.flavour.start_command()))
        began = time.monotonic()
        lab.start()
        lab.wait_all_ok()
        took = time.monotonic() - began
        self.type(lab.nodes[0], self.tool + ' status')
        self.shows('all nodes OK %.1f s after the first exec (with the time our looking takes)' % took)

    def accounts(self, lab):
        first, second, third = lab.nodes
        self.step('An account added on one node is there on all')
        lab.add_unix_users(['jo', 'ann', 'crew'])
        self.add_user(first, 'jo')
        self.type(first, 'smbpasswd -a -s ann', input='%s\n%s\n' % (PASSWORD, PASSWORD))
        for node in (second, third):
            said = self.type(node, 'pdbedit -L').stdout
            self.shows('both are on node%d at once' % node.number, 'jo:' in said and 'ann:' in said)
        self.step('Its password is changed on another node')
        before = self.users(first)['jo']
        self.type(second, 'smbpasswd -s jo', input='Other-2\nOther-2\n')
        hashes = []
        for node in lab.nodes:
            hashes.append(self.type(node, 'pdbedit -L -w jo').stdout.split(':')[3])
        self.shows('the hash is new, and equal on all', len(set(hashes)) == 1 and hashes[0] != before)
        self.step('A user deleted on a third node is gone on the first')
        self.type(third, 'pdbedit -x -u ann')
        self.shows('only jo is left', 'ann' not in self.users(first))
        self.step('Groups, registry, account policy and secrets replicate too')
        self.type(first, "net groupmap add ntgroup='The Crew' unixgroup=crew type=domain")
        self.shows('group mapping', 'The Crew' in self.type(third, 'net groupmap list').stdout)
        self.type(second, "net conf setparm lab path /srv/share")
        self.shows('registry configuration', '/srv/share' in self.type(first, 'net conf list').stdout)
        self.type(third, "pdbedit -P 'min password length' -C 7")
        self.shows('account policy', 'is: 7' in self.type(second, "pdbedit -P 'min password length'").stdout)
        self.type(first, 'net setlocalsid S-1-5-21-1111111111-2222222222-3333333333')
        self.shows('the SID', '1111111111-2222222222' in self.type(third, 'net getlocalsid').stdout)

    LOOP = 'for u in %s; do if printf "Pw-1\\nPw-1\\n" | pdbedit -a -t -u $u >/dev/null; then echo "ok $u"; ' \
           'else echo "failed $u"%s; fi; done'

    def load(self, lab, prefix, count, gives_up=None):
        """Starts `count` additions spread over the nodes; returns [(node, process, output file)]."""
        users = ['%s%d' % (prefix, i) for i in range(count)]
        lab.add_unix_users(users)
        running = []
        for node in lab.nodes:
            path = os.path.join(lab.work, '%s.%d' % (prefix, node.number))
            with open(path, 'w') as out:
                command = self.LOOP % (' '.join(users[node.number::len(lab.nodes)]), '; exit 1' if node is gives_up else '')
                running.append((node, node.popen(command, samba=True, stdout=out, stderr=out), path))
        return users, running

    @staticmethod
    def lines(path):
        with open(path) as file:
            return file.read().splitlines()

    def many_users(self, lab):
        self.step('200 users added from three nodes in parallel')
        print('node*# for u in ...; do pdbedit -a -t -u $u; done     (a third of the users on each node)')
        began = time.monotonic()
        users, running = self.load(lab, 'many', 200)
        for _, process, _ in running:
            process.wait()
        took = time.monotonic() - began
        errors = [line for _, _, path in running for line in self.lines(path) if line.startswith('failed ')]
        for line in errors[:10]:
            print('   ' + line)
        print('   %d users in %.1f s: %.0f a second' % (len(users), took, len(users) / took))
        for node in lab.nodes:
            missing = set(users) - set(self.users(node))
            self.shows('node%d has all of them' % node.number, not missing)
        self.shows('and no call failed', not errors)

    def node_death(self, lab):
        self.step('kill -9 of one daemon in the middle of such a load')
        victim = lab.nodes[lab.nodes[0].leader() or 0]
        users, running = self.load(lab, 'death', 120, gives_up=victim)
        wait_for(lambda: all(len(self.lines(path)) >= 5 for _, _, path in running), 'the load to run')
        print('node%d# kill -9 %s                             (it is the leader)' % (victim.number, lab.flavour.daemon))
        victim.kill_daemon()
        for _, process, _ in running:
            process.wait()
        said = {node: self.lines(path) for node, _, path in running}
        acknowledged = [line[3:] for lines in said.values() for line in lines if line.startswith('ok ')]
        survivors = [node for node in lab.nodes if node is not victim]
        failed = [line for node in survivors for line in said[node] if line.startswith('failed ')]
        for line in failed[:10]:
            print('   ' + line)
        self.shows('the two others went on: %d users acknowledged in all, no error there' % len(acknowledged), not failed)
        self.type(survivors[0], self.tool + ' status')
        for node in survivors:
            self.shows('no acknowledged user is missing on node%d' % node.number, set(acknowledged) <= set(self.users(node)))
        print('node%d# (starts its daemon again)' % victim.number)
        victim.start()
        lab.wait_all_ok()
        self.shows('nor on the node that came back', set(acknowledged) <= set(self.users(victim)))
        self.digests_equal(lab, 'every persistent database is identical on all nodes')

    def killed_clients(self, lab):
        self.step('kill -9 of pdbedit at random moments, 100 times')
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        lab.add_unix_users(['prey%d' % i for i in range(10)])
        killed = 0
        for _ in range(100):
            node, user = rng.choice(lab.nodes), 'prey%d' % rng.randrange(10)
            command = rng.choice((['pdbedit', '-a', '-t', '-u', user], ['pdbedit', '-x', '-u', user]))
            process = node.popen(command, samba=True, stdin=subprocess.PIPE)
            try:
                process.stdin.write('%s\n%s\n' % (PASSWORD, PASSWORD))
                process.stdin.flush()
            except BrokenPipeError:
                pass
            end = time.monotonic() + rng.random() * 0.06
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.0005)
            for child in children_of(process.pid):
                os.kill(child, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
            killed += process.returncode != 0
        print('   seed %d: %d of 100 did not end by themselves with success' % (seed, killed))
        lab.add_unix_users(['after'])
        self.add_user(lab.nodes[1], 'after')
        self.shows('no lock stayed: the next one got it', 'after' in self.users(lab.nodes[2]))
        if not asked_for_peer():
            self.type(lab.nodes[0], 'dbtool check')
        self.digests_equal(lab, 'no database is damaged, all are equal')

    def records(self, lab):
        if asked_for_peer():
            return
        self.step('Looking at records')
        self.type(lab.nodes[0], 'dbtool list')
        self.type(lab.nodes[0], 'dbtool keys passdb.tdb', lines=5)
        self.type(lab.nodes[1], r"dbtool --decode get passdb.tdb 'USER_jo\0'", lines=8)
        self.type(lab.nodes[1], 'dbtool keys g_lock.tdb', lines=5)

    def same_output(self, lab):
        self.step("Debian's own ctdb command on this cluster")
        for arguments in ('-X nodestatus all', 'pnn', 'listnodes', 'runstate', 'getcapabilities', 'getdbmap'):
            theirs = self.type(lab.nodes[1], 'ctdb ' + arguments)
            ours = lab.nodes[1].samba([self.tool] + arguments.split(), check=False)
            self.shows('%s %s prints the same' % (self.tool, arguments), theirs.stdout == ours.stdout)

    def cut_off(self, lab):
        self.step('One node is cut off')
        lonely, others = lab.nodes[2], lab.nodes[:2]
        lab.add_unix_users(['during', 'refused'])
        print('       (the private cable of node2 is pulled)')
        lonely.cut()
        wait_for(lambda: lab.all_ok(others), 'the majority to go on')
        self.add_user(others[0], 'during')
        self.shows('the majority goes on', 'during' in self.users(others[1]))
        result = self.type(lonely, 'timeout -s KILL 5 pdbedit -a -t -u refused', input='%s\n%s\n' % (PASSWORD, PASSWORD),
                           check=False, lines=3)
        self.shows('the lonely node accepts nothing', result.returncode != 0)
        said = self.type(lonely, self.tool + ' -v status', check=False)
        self.shows('and says why', bool(re.search('quorum|majority', said.stdout + said.stderr, re.I)))
        print('       (the cable is back)')
        lonely.join()
        lab.wait_all_ok()
        users = self.users(lonely)
        self.shows('the user of the meantime is there, the refused one is not', 'during' in users and 'refused' not in users)
        self.digests_equal(lab, 'all are equal again')

    def strangers(self, lab):
        self.step('Strangers on the node port, rubbish on the client socket')
        before = [node.daemon_pid() for node in lab.nodes]
        node = lab.nodes[0]
        lines = len(node.log().splitlines())
        self.type(lab.nodes[1], "for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom | timeout 2 "
                  "bash -c 'cat >/dev/tcp/%s/4379' 2>/dev/null; done" % node.address, check=False)
        script, arguments = 'tests/integration/client_socket.py', '%s hostile %d' % (lab.flavour.socket, random.randrange(1 << 32))
        print('node0# %s %s' % (script, arguments), flush=True)
        sent = node.out('python3 -B %s %s' % (os.path.join(ROOT, script), arguments))
        print('   %s connections with random, truncated or lying packets' % sent.strip())
        for line in node.log().splitlines()[lines:][:8]:
            print('   log: ' + line)
        lab.wait_all_ok()
        self.shows('no daemon died or restarted', before == [n.daemon_pid() for n in lab.nodes])

    def two_nodes(self):
        self.step('Two nodes with a cluster lock on the shared folder: either one survives the other')
        with Lab(2, flavour_asked_for(cluster_lock='/srv/.ctdb/cluster.lock')) as lab:
            lab.start()
            lab.wait_all_ok()
            for victim in lab.nodes:
                survivor = lab.nodes[1 - victim.number]
                user = 'pair%d' % victim.number
                lab.add_unix_users([user])
                print('node%d# kill -9 %s' % (victim.number, lab.flavour.daemon))
                victim.kill_daemon()
                wait_for(lambda: lab.all_ok([survivor]), lambda: 'the survivor to go on\n' + lab.describe())
                self.add_user(survivor, user)
                victim.start()
                lab.wait_all_ok()
                self.shows('node%d went on alone; node%d is back and has %s' % (survivor.number, victim.number, user),
                           user in self.users(victim))

    def two_nodes_without_a_lock(self):
        self.step('Two nodes without a lock: the lone node refuses and says what to configure')
        with Lab(2) as lab:
            lab.start()
            lab.wait_all_ok()
            lab.add_unix_users(['lone'])
            print('node1# kill -9 %s' % lab.flavour.daemon)
            lab.nodes[1].kill_daemon()
            lone = lab.nodes[0]
            wait_for(lambda: 'cluster lock' in lone.reasons() and not lone.in_normal_mode(), lambda: 'status to say it\n' + lab.describe())
            self.type(lone, self.tool + ' -v status', check=False)
            result = self.type(lone, 'timeout -s KILL 5 pdbedit -a -t -u lone', check=False, lines=3,
                               input='%s\n%s\n' % (PASSWORD, PASSWORD))
            self.shows('nothing is accepted', result.returncode != 0)


def main():
    reason = laboratory.why_not_here()
    if reason:
        sys.exit('tools/demo: cannot make the nodes here: ' + reason)
    began = time.monotonic()
    try:
        Demo().run()
    except (Wrong, LabError) as error:
        sys.exit('\ntools/demo: %s' % error)
    print('\nAll of it in %.0f s; the nodes are gone.' % (time.monotonic() - began))


if __name__ == '__main__':
    main()
