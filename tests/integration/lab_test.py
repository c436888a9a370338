#!/usr/bin/python3 -B
"""The laboratory itself: nothing of it outlives its process, however that ends, and nothing outside is touched."""
import os
import re
import signal
import subprocess
import sys
import unittest

from lab import Lab, RealCtdb, main, wait_for

# A program that makes a lab, says where it is, and waits to be ended.
OWNER = r'''
import sys, time
sys.path.insert(0, sys.argv[1])
from lab import Lab, RealCtdb
with Lab(2, RealCtdb()) as lab:
    sleeper = lab.nodes[0].popen(["setsid", "sleep", "100000"])
    print(lab.work, *[str(host.init) for host in lab.nodes + [lab.switch]], flush=True)
    if len(sys.argv) > 2:
        raise SystemExit("a failing test")
    time.sleep(100000)
'''


# Nobody listens on that port, so a working link refuses at once and a broken one is silent.
KNOCK = r'''
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=1)
except ConnectionRefusedError:
    print("reached")
except OSError:
    pass
'''


def reaches(one, two):
    return one.python(KNOCK, two.address).stdout == 'reached\n'


def sleepers(init_pids):
    """Processes that still live in the pid namespaces of these inits (or the inits themselves)."""
    return [pid for pid in init_pids if os.path.exists('/proc/%d' % pid)]


class Laboratory(unittest.TestCase):
    def end_an_owner(self, end, *arguments):
        owner = subprocess.Popen([sys.executable, '-B', '-c', OWNER, os.path.dirname(os.path.abspath(__file__)), *arguments],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(owner.stdout.close)
        work, *inits = owner.stdout.readline().split()
        inits = [int(pid) for pid in inits]
        self.assertTrue(os.path.isdir(work))
        end(owner)
        owner.wait()
        wait_for(lambda: not sleepers(inits), 'all hosts to be gone', 30)
        return work

    def test_a_killed_owner_leaves_no_process_and_the_next_lab_sweeps_its_files(self):
        work = self.end_an_owner(lambda owner: owner.kill())
        with Lab(1, RealCtdb()):
            self.assertFalse(os.path.exists(work))

    def test_a_terminated_owner_cleans_up(self):
        self.assertFalse(os.path.exists(self.end_an_owner(lambda owner: owner.terminate())))

    def test_an_interrupted_owner_cleans_up(self):
        self.assertFalse(os.path.exists(self.end_an_owner(lambda owner: owner.send_signal(signal.SIGINT))))

    def test_an_owner_that_fails_cleans_up(self):
        self.assertFalse(os.path.exists(self.end_an_owner(lambda owner: None, 'fail')))

    def test_the_machine_itself_is_not_touched(self):
        def traces(*labs):
            """What of these labs can be seen from outside."""
            with open('/proc/net/dev') as devices, open('/proc/self/mounts') as mounts, open('/etc/passwd') as passwd:
                return ([line for line in devices if re.match(r' *(port\d|lan):', line)]
                        + [line for line in mounts if any(lab.work in line for lab in labs)]
                        + [line for line in passwd if line.startswith('somebody:')]
                        + [path for path in ('/etc/mine', '/run/mine', '/var/lib/mine') if os.path.exists(path)])
        with Lab(2, RealCtdb()) as lab:
            lab.add_unix_users(['somebody'])
            lab.nodes[0].run('touch /etc/mine /run/mine /var/lib/mine && id somebody')
            self.assertEqual(traces(lab), [])
            self.assertNotEqual(lab.nodes[0].run('touch /etc/apt/mine', check=False).returncode, 0, 'only to be looked at')
            # and two labs at once do not see each other
            with Lab(2, RealCtdb()) as other:
                self.assertNotIn('somebody', other.nodes[0].read('/etc/passwd'))
                self.assertFalse(os.path.exists(other.nodes[0].path('/etc/mine')))
                for each in (lab, other):
                    self.assertTrue(reaches(each.nodes[0], each.nodes[1]))
        self.assertEqual(traces(lab, other), [])

    def test_a_pulled_cable_is_silent_until_it_is_back(self):
        with Lab(2, RealCtdb()) as lab:
            one, two = lab.nodes
            two.cut()
            self.assertFalse(reaches(one, two))
            two.join()
            wait_for(lambda: reaches(one, two), 'the link')


if __name__ == '__main__':
    main()
