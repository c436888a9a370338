#!/usr/bin/python3 -B
"""kill -9 of pdbedit at random moments: no lock stays behind and no database is damaged."""
import os
import random
import signal
import time

from lab import PASSWORD, Scenario, asked_for_peer, children_of, main, wait_for

KILLS = int(os.environ.get('TDBMESH_KILLS', '100'))


class KilledClient(Scenario):
    def setUp(self):
        super().setUp()
        self.passwords = os.path.join(self.lab.work, 'passwords')
        with open(self.passwords, 'w') as file:
            file.write('%s\n%s\n' % (PASSWORD, PASSWORD))

    def start(self, node, command):
        with open(self.passwords) as passwords:
            return node.popen(command, samba=True, stdin=passwords)

    def kill_once(self, node, command, delay):
        """Starts pdbedit, kills it after `delay` seconds; True if the kill came before its end."""
        process = self.start(node, command)
        started = time.monotonic()
        while process.poll() is None and time.monotonic() - started < delay:
            time.sleep(0.0005)
        # nsenter's child is pdbedit itself (everything between them replaces itself)
        for child in children_of(process.pid):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.communicate()
        return process.returncode != 0

    def test_a_hundred_kills_leave_no_lock_and_no_damage(self):
        seed = int(os.environ.get('TDBMESH_SEED', random.randrange(1 << 32)))
        rng = random.Random(seed)
        print('TDBMESH_SEED=%d' % seed, flush=True)
        users = self.fresh_users('victim', 20)
        witness = self.fresh_users('witness', 1)[0]
        self.add_account(self.nodes[0], users[0])
        start = time.monotonic()
        self.add_account(self.nodes[0], users[1])
        usual = time.monotonic() - start

        killed = 0
        for attempt in range(KILLS):
            node = rng.choice(self.nodes)
            user = rng.choice(users)
            command = rng.choice((['pdbedit', '-a', '-t', '-u', user], ['pdbedit', '-x', '-u', user],
                                  ['pdbedit', '-r', '-u', user, '-f', 'Name %d' % attempt]))
            killed += self.kill_once(node, command, rng.random() * usual * 1.2)
            if attempt % 10 == 9:
                # if a lock had stayed, this would hang until its bound
                self.add_account(rng.choice(self.nodes), witness)
                rng.choice(self.nodes).samba(['pdbedit', '-x', '-u', witness])
        self.assertGreater(killed, KILLS // 2, 'most kills hit a running pdbedit (seed %d)' % seed)

        for node in self.nodes:
            self.assertTrue(node.daemon_pid(), 'the daemon of node %d lives' % node.number)
            self.accounts(node)
            if not asked_for_peer():
                node.run(['dbtool', 'check'])
        self.assert_identical_databases()
        self.assertTrue(self.lab.all_ok())

    def test_a_killed_transaction_holder_frees_its_lock(self):
        """The killed process held the lock of a whole transaction: the next one gets it."""
        user, other = self.fresh_users('holder', 2)
        for node in self.nodes:
            for _ in range(3):
                process = self.start(node, ['pdbedit', '-a', '-t', '-u', user])
                wait_for(lambda: process.poll() is not None or children_of(process.pid), 'pdbedit to run')
                for child in children_of(process.pid):
                    os.kill(child, signal.SIGKILL)
                process.communicate()
            self.add_account(node, other)
            node.samba(['pdbedit', '-x', '-u', other])


if __name__ == '__main__':
    main()
