#!/usr/bin/python3 -B
"""Public addresses on three nodes: whatever happens to a node, its addresses answer again from another one, and never
from two at once. Who answers is what the ports of the switch see."""
import json
import signal
import subprocess
import threading
import time
import unittest

from lab import asked_for_peer, main, wait_for, _kill
from public_lab import KEEP, PORT, Probe, PublicScenario, Watch

KERNEL_LIFETIME = 2.5    # seconds until a kernel has forgotten what nobody renews (1 s, looked at once a second)


@unittest.skipIf(asked_for_peer(), 'looks at what only tdbmesh promises')
class Addresses(PublicScenario):
    def leader(self):
        return wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]

    def plain_victim(self):
        return self.nodes[(self.leader() + 1) % 3]

    def of(self, node):
        """Addresses that the node has now."""
        return [a for a, who in self.lab.holders().items() if who == [node.number]]

    def strike(self, victim, what, overlap=0.0, others_stay=True):
        """Does `what` to the victim: each of its addresses answers from another node, and nobody spoke with two
        tongues longer than `overlap`. Returns the seconds until the last of them answered again."""
        mine = self.of(victim)
        self.assertTrue(mine, 'the victim hosts something')
        before = self.lab.holders()
        with Watch(self.lab) as watch, Probe(self.lab) as probe:
            for address in self.lab.addresses:
                probe.wait_for(address, lambda node, _: True)
            at = time.monotonic()
            what()
            moved = [probe.wait_for(a, lambda node, t: node != victim.number and t > at) for a in mine]
            survivors = [node for node in self.nodes if node is not victim]
            # long enough for a kernel to forget, so that a late answer of the victim would be heard
            end = time.monotonic() + KERNEL_LIFETIME
            wait_for(lambda: time.monotonic() > end, 'the watch to end')
            for address in self.lab.addresses:
                if before[address] != [victim.number] and others_stay:
                    self.assertEqual({h[2] for h in probe.answers(address)}, set(before[address]),
                                     '%s was not concerned' % address)
            late = [(a, node, s) for a, node, s in watch.overlaps() if s > overlap]
            self.assertEqual(late, [], 'no address spoke from two nodes (address, node, seconds)\n%s' % {
                a: watch.turns(a) for a, _, _ in late})
            holders = self.lab.holders()
            for address in mine:
                who = [pnn for pnn in holders[address] if pnn != victim.number]
                self.assertEqual(len(who), 1, '%s: %s' % (address, holders[address]))
                self.assertIn(who[0], [n.number for n in survivors])
        return max(h[0] for h in moved) - at

    def assert_free(self, victim):
        wait_for(lambda: not [a for a, who in self.lab.holders().items() if victim.number in who],
                 lambda: 'the victim to have no address: %s' % self.lab.holders())

    def test_all_addresses_are_spread_and_served(self):
        holders = self.lab.holders()
        counts = [len(self.of(node)) for node in self.nodes]
        self.assertLessEqual(max(counts) - min(counts), 2, holders)
        with Probe(self.lab) as probe:
            for address in self.lab.addresses:
                self.assertEqual([probe.wait_for(address, lambda node, _: True)[2]], holders[address])
        wait_for(lambda: {a: [p] for a, p in self.lab.owners().items()} == self.lab.holders(),
                 lambda: '`ip all` to say what the kernels say: %s / %s' % (self.lab.owners(), self.lab.holders()))

    def test_a_killed_daemon(self):
        victim = self.plain_victim()
        took = self.strike(victim, lambda: victim.signal_daemon(signal.SIGKILL))
        print('daemon killed: %.3f s' % took)
        self.assert_free(victim)

    def test_a_killed_daemon_of_the_leader(self):
        victim = self.nodes[self.leader()]
        print('daemon of the leader killed: %.3f s' % self.strike(victim, lambda: victim.signal_daemon(signal.SIGKILL)))
        self.assert_free(victim)

    def test_every_process_of_a_node_killed(self):
        """Only the kernel is left; what it still says until the lifetime is over loses against repeated ARP."""
        victim = self.plain_victim()
        print('all processes killed: %.3f s' % self.strike(victim, lambda: self.lab.kill_everything(victim), KERNEL_LIFETIME))
        self.assert_free(victim)

    def test_a_frozen_daemon(self):
        victim = self.plain_victim()
        print('daemon frozen: %.3f s' % self.strike(victim, victim.freeze_daemon))
        self.assert_free(victim)
        victim.thaw_daemon()
        self.lab.wait_all_hosted()

    def test_a_node_cut_off_from_the_others(self):
        """Its public network still works, so only its own giving up keeps the addresses from answering twice."""
        victim = self.plain_victim()
        print('cut off: %.3f s' % self.strike(victim, victim.cut))
        self.assert_free(victim)
        victim.join()
        self.lab.wait_all_hosted()

    def test_a_node_that_loses_its_power(self):
        victim = self.plain_victim()
        print('power off: %.3f s' % self.strike(victim, lambda: self.lab.power_off(victim)))

    def test_disable_and_enable(self):
        victim = self.plain_victim()
        self.addCleanup(lambda: victim.tool('enable', check=False))
        print('disable: %.3f s' % self.strike(victim, lambda: victim.tool('disable')))
        self.assert_free(victim)
        victim.tool('enable')
        self.lab.wait_all_hosted()

    def test_stop_and_continue(self):
        victim = self.plain_victim()
        self.addCleanup(lambda: victim.tool('continue', check=False))
        print('stop: %.3f s' % self.strike(victim, lambda: victim.tool('stop')))
        self.assert_free(victim)
        victim.tool('continue')
        self.lab.wait_all_hosted()

    def test_shutdown(self):
        victim = self.plain_victim()
        print('shutdown: %.3f s' % self.strike(victim, lambda: victim.tool('shutdown')))
        self.assert_free(victim)

    def test_an_interface_that_goes_down(self):
        victim = self.plain_victim()
        self.strike(victim, lambda: subprocess.run(victim.enter(['ip', 'link', 'set', 'pub0', 'down']), check=True))
        subprocess.run(victim.enter(['ip', 'link', 'set', 'pub0', 'up']), check=True)
        self.lab.wait_all_hosted()

    def test_an_address_that_an_operator_removes_comes_back(self):
        node = self.plain_victim()
        address = next(a for a in self.of(node) if '.' in a)
        subprocess.run(node.enter(['ip', 'addr', 'del', address + '/24', 'dev', 'pub0']), check=True)
        wait_for(lambda: len(self.lab.holders()[address]) == 1, lambda: 'the address to come back: %s' % self.lab.holders())

    def test_an_address_that_an_operator_adds_elsewhere_is_removed(self):
        node = self.plain_victim()
        address = next(a for a, who in self.lab.holders().items() if '.' in a and who != [node.number])
        subprocess.run(node.enter(['ip', 'addr', 'add', address + '/24', 'dev', 'pub0']), check=True)
        wait_for(lambda: node.number not in self.lab.holders()[address], lambda: 'it to go: %s' % self.lab.holders())

    def test_what_a_dead_daemon_left_is_removed_at_the_next_start(self):
        node = self.plain_victim()
        node.stop()
        self.assert_free(node)
        address = self.lab.addresses[0]
        subprocess.run(node.enter(['ip', 'addr', 'add', address + '/24', 'dev', 'pub0']), check=True)
        node.start()
        self.lab.wait_all_hosted()

    def test_a_killed_supervisor_costs_nothing(self):
        node = self.plain_victim()
        mine = self.of(node)
        with Watch(self.lab) as watch, Probe(self.lab, mine) as probe:
            probe.wait_for(mine[0], lambda _, t: True)
            old = node.pids('tdbmesh-supervisor')
            _kill(old[0], signal.SIGKILL)
            wait_for(lambda: node.pids('tdbmesh-supervisor') not in ([], old), 'another supervisor')
            at = time.monotonic() + KERNEL_LIFETIME
            probe.wait_for(mine[0], lambda _, t: t > at)
            self.assertEqual({h[2] for h in probe.heard}, {node.number})
            for address in mine:
                self.assertEqual([turn[0] for turn in watch.turns(address)], [node.number])

    def kept_connection_moves(self, family='.', unreachable_at_first=False):
        """A client that only listens has its connection made anew after a move; seconds from the move until then."""
        victim = self.plain_victim()
        if not [a for a in self.of(victim) if family in a]:
            elsewhere = next(a for a in self.lab.addresses if family in a)
            victim.tool('moveip', elsewhere, str(victim.number))
        address = next(a for a in self.of(victim) if family in a)
        keeper = self.lab.in_client(KEEP, PORT, address)
        said = []
        reader = threading.Thread(target=lambda: said.extend(json.loads(line) for line in keeper.stdout))
        reader.start()
        try:
            wait_for(lambda: said, 'the client to be connected')
            # Its own word for its end: the kernel may list others to this address, which earlier clients left half
            # closed when it moved away under them.
            _, _, served_by, own_end = said[0]
            self.assertEqual(served_by, victim.number)
            # as CTDB's tool does it for services that do not register their connections themselves
            victim.run(['ctdb', 'addtickle', own_end, ('%s:%d' if family == '.' else '[%s]:%d') % (address, PORT)])
            others = [node for node in self.nodes if node is not victim]
            wait_for(lambda: all(own_end in node.run(['ctdb', 'gettickles', address], check=False).stdout
                                 for node in others), 'the others to know the connection')
            with Watch(self.lab) as watch:
                began = time.monotonic()
                if unreachable_at_first:
                    self.lab.in_switch('ip', 'link', 'set', 'client', 'nomaster')
                victim.tool('disable')
                wait_for(lambda: self.lab.holders()[address] not in ([], [victim.number]), 'the move')
                if unreachable_at_first:
                    self.lab.in_switch('ip', 'link', 'set', 'client', 'master', 'world')
                wait_for(lambda: len(said) > 1, lambda: 'the connection to be made anew\n%s' % subprocess.run(
                    self.lab.client.enter(['sh', '-c', 'ss -tno dst %s; ip neigh' % address]), capture_output=True, text=True).stdout)
            # A reset of the old owner's would have the client come back before there is a new one.
            self.assertEqual([(t - began, kind) for t, node, kind in watch.spoken().get(address, [])
                              if node == victim.number and kind == 'rst' and t > began], [], 'the old owner fell silent')
            self.assertNotEqual(said[1][2], victim.number)
            return said[1][0] - began
        finally:
            self.lab.in_switch('ip', 'link', 'set', 'client', 'master', 'world')
            keeper.stdin.close()
            keeper.wait()
            reader.join()
            keeper.stdout.close()
            victim.tool('enable', check=False)

    def test_connected_clients_learn_at_once(self):
        """A client that only listens notices nothing by itself: the new owner's tickle and its reset tell it."""
        print('a kept connection was made anew after %.3f s' % self.kept_connection_moves())

    def test_connected_clients_learn_at_once_by_ipv6(self):
        print('... after %.3f s by IPv6' % self.kept_connection_moves(family=':'))

    def test_a_connected_client_that_misses_the_first_tickle(self):
        """Nothing reaches it while the address moves: announcements and tickles are repeated until it hears them."""
        print('... after %.3f s for a client cut off meanwhile' % self.kept_connection_moves(unreachable_at_first=True))


if __name__ == '__main__':
    main()
