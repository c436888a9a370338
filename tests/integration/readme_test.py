#!/usr/bin/python3 -B
"""The README's five lines do what the README says: three nodes on loopback, status, and an orderly end."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from lab import BIN, ROOT, Host, asked_for_peer, main


@unittest.skipIf(asked_for_peer(), 'these lines are about tdbmesh')
class ReadmeExample(unittest.TestCase):
    def test_the_five_lines(self):
        with open(os.path.join(ROOT, 'README.md')) as readme:
            example = re.search(r'<!-- five lines.*?-->\n```sh\n(.*?)```', readme.read(), re.S).group(1)
        self.assertEqual(len(example.splitlines()), 5)
        # in a host of its own: its loopback, its processes; and in a folder of its own
        host = Host('readme')
        self.addCleanup(host.kill)
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        example = example.replace('$PWD/build/release/bin', BIN).replace('/tmp/mesh', folder)
        setup = 'ip link set lo up && cd "$1" && '
        # the nodes find each other in their own time: `status` is asked until it shows them
        lines = example.splitlines()
        lines[3] = 'for i in $(seq 600); do %s | grep -c " OK" | grep -qx 3 && break; sleep 0.1; done; %s' % (
            'CTDB_SOCKET=$M/1/run/ctdbd.socket tdbmesh status', lines[3])
        done = subprocess.run(host.enter(['bash', '-c', setup + '{ ' + '\n'.join(lines) + '\n}', 'bash', ROOT]),
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn('Number of nodes:3', done.stdout)
        self.assertEqual(len(re.findall(r'^pnn:\d \S+ +OK', done.stdout, re.M)), 3, done.stdout + done.stderr)
        self.assertIn('Recovery mode:NORMAL', done.stdout)
        left = subprocess.run(host.enter(['pgrep', '-c', 'tdbmeshd']), capture_output=True, text=True).stdout.strip()
        self.assertEqual(left, '0', 'all daemons have ended')


if __name__ == '__main__':
    main()
