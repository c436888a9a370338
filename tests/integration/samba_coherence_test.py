#!/usr/bin/python3 -B
"""Three nodes serve one folder: what a client does through one node binds the clients of the others, and what dies lets go."""
import os
import shutil
import signal
import unittest

from lab import main, wait_for
from samba_lab import SHARE, SambaScenario, leave_the_kernel_out
from smb2_client import (DELETE, DELETE_ON_CLOSE, DIRECTORY, LEASE_H, LEASE_R, LEASE_W, LOCK_EXCLUSIVE, LOCK_SHARED, LOCK_FAIL,
                         OPEN, OPLOCK_BATCH, OPLOCK_II, READ, SHARE_NONE, WRITE, Refused)


class Coherence(SambaScenario):
    def refused(self, why, call, *arguments, **options):
        with self.assertRaises(Refused) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.name, why)

    def opens_at_last(self, session, name, **how):
        def attempt():
            try:
                return session.create(name, **how)
            except Refused as error:
                self.assertEqual(error.name, 'SHARING_VIOLATION')
                return None
        return wait_for(attempt, '%s to be free' % name)

    def test_an_exclusive_open_on_one_node_refuses_the_second_on_another(self):
        a, b, c = (self.connect(number) for number in range(3))
        file = a.create('exclusive', access=READ | WRITE, share=SHARE_NONE)
        self.refused('SHARING_VIOLATION', b.create, 'exclusive')
        self.refused('SHARING_VIOLATION', c.create, 'exclusive', access=WRITE)
        a.close(file)
        c.create('exclusive', share=SHARE_NONE)
        self.refused('SHARING_VIOLATION', a.create, 'exclusive')

    @unittest.skipIf(not shutil.which('glusterfs'), 'needs glusterfs to have a file system of a cluster')
    def test_a_file_system_with_other_device_numbers_on_each_node_needs_fileid(self):
        # Samba's id of a file begins with the device number. GlusterFS's client on the shared folder: a mount, and with it a
        # number, of its own on each node.
        os.makedirs(os.path.join(self.lab.work, 'shared', 'bricks'))
        os.chmod(os.path.join(self.lab.work, 'shared', 'bricks'), 0o777)
        for node in self.nodes:
            node.write('/srv/volume.vol', 'volume posix\n type storage/posix\n option directory /srv/bricks\nend-volume\n')
            node.run('mkdir -p /volume && glusterfs -f /srv/volume.vol -l /var/log/volume.log /volume')
            self.addCleanup(node.run, 'umount -l /volume')        # the last sessions may not have ended yet
        self.assertEqual(len({node.run(['stat', '-c', '%d', '/volume']).stdout for node in self.nodes}), 3)

        def net_conf(*command):
            self.nodes[0].samba(('net', 'conf') + command)
        net_conf('addshare', 'volume', '/volume', 'writeable=y', 'guest_ok=n')
        self.addCleanup(net_conf, 'delshare', 'volume')
        leave_the_kernel_out(self.nodes[0], 'volume')

        def sessions():
            for number in range(3):
                session = self.connect(number)
                session.tree('\\\\%s\\volume' % self.nodes[number].address)
                yield session
        a, b, _ = sessions()
        a.create('exclusive', access=READ | WRITE, share=SHARE_NONE)
        b.create('exclusive', access=READ | WRITE, share=SHARE_NONE)        # what the README warns of
        for session in (a, b):
            session.hang_up()
        net_conf('setparm', 'volume', 'vfs objects', 'fileid')
        net_conf('setparm', 'volume', 'fileid:algorithm', 'fsname')
        a, b, c = sessions()
        a.create('only once', access=READ | WRITE, share=SHARE_NONE)
        for session in (b, c):
            self.refused('SHARING_VIOLATION', session.create, 'only once', access=READ)
        mine, theirs = (smb.create('ranges', access=READ | WRITE) for smb in (b, c))
        b.lock(mine, 10, 10)
        self.refused('LOCK_NOT_GRANTED', c.lock, theirs, 15, 10)

    def test_byte_range_locks_hold_between_nodes(self):
        a, b = self.connect(0), self.connect(1)
        mine, theirs = (smb.create('ranges', access=READ | WRITE) for smb in (a, b))
        a.write(mine, bytes(200))
        a.lock(mine, 10, 10)
        self.refused('LOCK_NOT_GRANTED', b.lock, theirs, 15, 10)
        self.refused('LOCK_NOT_GRANTED', b.lock, theirs, 19, 1, LOCK_SHARED | LOCK_FAIL)
        self.refused('FILE_LOCK_CONFLICT', b.write, theirs, b'x', 12)
        self.refused('FILE_LOCK_CONFLICT', b.read, theirs, 5, 8)
        b.lock(theirs, 20, 10)
        a.unlock(mine, 10, 10)
        b.lock(theirs, 10, 10)
        self.refused('LOCK_NOT_GRANTED', a.lock, mine, 25, 1)
        b.close(theirs)
        a.lock(mine, 0, 100)

    def test_a_lock_is_seen_at_once_by_a_node_that_has_just_looked_at_the_locks(self):
        # smbd keeps the list of a file's locks until brlock.tdb's sequence number changes. Without the kernel's locks,
        # which all nodes of this lab share and which would hide a list that is too old.
        self.nodes[0].samba(['net', 'conf', 'setparm', SHARE, 'posix locking', 'no'])
        self.addCleanup(lambda: self.nodes[0].samba(['net', 'conf', 'delparm', SHARE, 'posix locking']))
        a, b = self.connect(0), self.connect(1)
        mine, theirs = (smb.create('looked-at', access=READ | WRITE) for smb in (a, b))
        a.lock(mine, 500, 10)
        for attempt in range(20):
            for _ in range(3):
                b.write(theirs, b'x', 12)
            a.lock(mine, 10, 10)
            self.refused('FILE_LOCK_CONFLICT', b.write, theirs, b'x', 12)
            a.unlock(mine, 10, 10)

    def test_unlocking_a_range_that_is_locked_twice_ends_the_write_lock_first(self):
        a, b = self.connect(0), self.connect(1)
        mine, theirs = (smb.create('twice', access=READ | WRITE) for smb in (a, b))
        for attempt in range(20):
            a.lock(mine, 130, 4)
            a.lock(mine, 130, 4, LOCK_SHARED | LOCK_FAIL)
            a.unlock(mine, 130, 4)
            b.lock(theirs, 130, 4, LOCK_SHARED | LOCK_FAIL)
            self.refused('LOCK_NOT_GRANTED', b.lock, theirs, 130, 4)
            a.unlock(mine, 130, 4)
            b.unlock(theirs, 130, 4)

    def test_a_waiting_lock_is_granted_when_another_node_unlocks(self):
        a, b = self.connect(2), self.connect(1)
        mine, theirs = (smb.create('waiting', access=READ | WRITE) for smb in (a, b))
        a.lock(mine, 0, 10)
        waiting = b.post_lock(theirs, 5, 10, LOCK_EXCLUSIVE)
        b.wait_until_pending(waiting)
        a.unlock(mine, 0, 10)
        b.wait_for_reply(waiting)
        self.refused('LOCK_NOT_GRANTED', a.lock, mine, 5, 1)

    def test_an_oplock_on_one_node_is_broken_by_an_open_on_another(self):
        a, b = self.connect(0), self.connect(2)
        file = a.create('oplock', access=READ | WRITE, oplock=OPLOCK_BATCH)
        self.assertEqual(a.granted, OPLOCK_BATCH)
        opening = b.post_create('oplock', access=READ)
        broken = a.next_break()
        self.assertEqual(broken, ('oplock', file, OPLOCK_II))
        a.write(file, b'flushed before the answer')
        a.acknowledge(broken)
        theirs = b.finish_create(opening)
        self.assertEqual(b.read(theirs, 100), b'flushed before the answer')

    def test_a_lease_on_one_node_is_broken_by_an_open_on_another(self):
        a, b = self.connect(1), self.connect(0)
        key = os.urandom(16)
        file = a.create('lease', access=READ | WRITE, lease=(key, LEASE_R | LEASE_H | LEASE_W))
        self.assertEqual(a.granted, LEASE_R | LEASE_H | LEASE_W)
        opening = b.post_create('lease', access=READ | WRITE)
        broken = a.next_break()
        self.assertEqual(broken, ('lease', key, LEASE_R | LEASE_H))
        a.acknowledge(broken)
        theirs = b.finish_create(opening)
        b.write(theirs, b'other')
        self.assertEqual(a.next_break(), ('lease', key, 0))
        self.assertEqual(a.read(file, 10), b'other')

    def test_delete_on_close_waits_for_the_last_handle_on_any_node(self):
        a, b, c = (self.connect(number) for number in range(3))
        mine = a.create('doomed', access=READ | DELETE, options=DELETE_ON_CLOSE)
        theirs = b.create('doomed', access=READ)
        a.close(mine)
        self.refused('DELETE_PENDING', c.create, 'doomed', disposition=OPEN)
        b.close(theirs)
        self.refused('NOT_FOUND', c.create, 'doomed', disposition=OPEN)

    def test_a_folder_with_a_file_open_on_another_node_is_not_renamed(self):
        a, b = self.connect(0), self.connect(1)
        folder = a.create('folder', access=READ | DELETE, options=DIRECTORY)
        inside = b.create('folder\\inside', access=READ | WRITE)
        self.refused('ACCESS_DENIED', a.rename, folder, 'moved')
        b.close(inside)
        a.rename(folder, 'moved')
        b.create('moved\\inside', access=READ, disposition=OPEN)
        self.refused('PATH_NOT_FOUND', b.create, 'folder\\inside', disposition=OPEN)

    def test_a_change_on_one_node_notifies_the_watchers_of_the_others(self):
        a, b, c = (self.connect(number) for number in range(3))
        folder = a.create('watched', access=READ, options=DIRECTORY)
        watches = [(a, a.post_notify(folder)),
                   (b, b.post_notify(b.create('watched', access=READ, options=DIRECTORY)))]
        for smb, number in watches:
            smb.wait_until_pending(number)
        # notifyd tells the other nodes once a second who watches what: changes until everybody has heard of one
        heard = set()
        for attempt in range(60):
            name = 'watched\\new-%d' % attempt
            c.close(c.create(name, access=READ | WRITE))
            for index, (smb, number) in enumerate(watches):
                if index not in heard and self.readable(smb):
                    action, what = smb.notified(number)[0]
                    self.assertEqual((action, what[:4]), (1, 'new-'))
                    heard.add(index)
            if len(heard) == 2:
                return
        self.fail('not all watchers heard of 60 new files: %s' % heard)

    @staticmethod
    def readable(session):
        import select
        return bool(select.select([session.connection], [], [], 0.5)[0])

    def test_an_smbd_killed_hard_leaves_no_lock_behind(self):
        a, b = self.connect(0), self.connect(1)
        file = a.create('left-behind', access=READ | WRITE, share=SHARE_NONE)
        a.lock(file, 0, 10)
        self.refused('SHARING_VIOLATION', b.create, 'left-behind')
        os.kill(self.session_pid(0), signal.SIGKILL)
        theirs = self.opens_at_last(b, 'left-behind', access=READ | WRITE)
        b.lock(theirs, 0, 10)
        self.assertNotRegex(self.nodes[2].samba(['smbstatus', '-L']).stdout, r'(?m)^0:\d+\s.*left-behind')

    def test_a_dead_node_leaves_no_lock_behind(self):
        a, b = self.connect(2), self.connect(0)
        file = a.create('node-gone', access=READ | WRITE, share=SHARE_NONE)
        a.lock(file, 0, 10)
        self.refused('SHARING_VIOLATION', b.create, 'node-gone')
        self.nodes[2].kill_daemon()
        theirs = self.opens_at_last(b, 'node-gone', access=READ | WRITE)
        b.lock(theirs, 0, 10)

    def test_a_node_that_loses_power_keeps_nobody_waiting_for_its_lease_and_is_listed_no_more(self):
        a, b = self.connect(1), self.connect(0)
        held = {'lease': dict(lease=(os.urandom(16), LEASE_R | LEASE_H | LEASE_W)), 'oplock': dict(oplock=OPLOCK_BATCH)}
        for name, how in held.items():
            a.lock(a.create('powerless-' + name, access=READ | WRITE | DELETE, **how), 0, 10)
        doomed = a.create('powerless-doomed', access=READ | DELETE, options=DELETE_ON_CLOSE)
        a.delete_on_close(doomed)
        self.nodes[1].lose_power()
        for name in held:
            file = self.opens_at_last(b, 'powerless-' + name, access=READ | WRITE, share=SHARE_NONE)
            b.write(file, b'mine')
        wait_for(lambda: self.refusal(b.create, 'powerless-doomed', disposition=OPEN) != 'DELETE_PENDING',
                 'the name of a file that nobody has open to be free')
        of_the_dead = r'(?m)^(%s\s+)?\s*1:\d+\s' % SHARE
        for which in ('-p', '-S', '-L'):
            self.assertNotRegex(self.nodes[2].samba(['smbstatus', which]).stdout, of_the_dead)
        # -B lists what a record says, whether or not the smbd lives. The newest version of a volatile record may die with its
        # node, here one that said that an earlier test's file is closed; so that is not looked at.
        self.assertNotRegex(self.nodes[2].samba(['smbstatus', '-B']).stdout, of_the_dead + r'.*powerless')

    @staticmethod
    def refusal(call, *arguments, **options):
        try:
            call(*arguments, **options)
            return None
        except Refused as error:
            return error.name


if __name__ == '__main__':
    main()
