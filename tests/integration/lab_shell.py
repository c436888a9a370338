#!/usr/bin/python3 -B
"""lab_shell.py [--peer] [--nodes N] [--lock] [--drop-in] [--no-start]

A cluster to play with. Makes a lab, starts the daemons, then reads lines (from a terminal or a pipe) until the end:

    K COMMAND       runs COMMAND in node K with Samba's environment (the shim)
    start K, stop K, kill K, freeze K, thaw K, cut K, join K
    users NAME...   adds unix users that Samba can have accounts for
    ok              waits until all nodes are OK          log K       end of a node's log
    where           how to enter the nodes from another terminal
"""
import argparse
import os
import sys

import lab as laboratory
from lab import Lab, LabError, RealCtdb, Tdbmesh, TdbmeshDropIn


def obey(lab, line):
    words = line.split()
    verbs = {'start': 'start', 'stop': 'stop', 'kill': 'kill_daemon', 'freeze': 'freeze_daemon', 'thaw': 'thaw_daemon',
             'cut': 'cut', 'join': 'join'}
    if words[0].isdigit():
        result = lab.nodes[int(words[0])].samba(line.split(None, 1)[1], check=False)
        sys.stdout.write(result.stdout + result.stderr)
        if result.returncode:
            print('(exit %d)' % result.returncode)
    elif words[0] in verbs:
        getattr(lab.nodes[int(words[1])], verbs[words[0]])()
    elif words[0] == 'users':
        lab.add_unix_users(words[1:])
    elif words[0] == 'ok':
        lab.wait_all_ok()
    elif words[0] == 'log':
        print('\n'.join(lab.nodes[int(words[1])].log().splitlines()[-40:]))
    elif words[0] == 'where':
        for node in lab.nodes:
            print('node %d: nsenter -t %d -m -n -p -u -i' % (node.number, node.init))
    else:
        print(__doc__)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--peer', action='store_true')
    parser.add_argument('--nodes', type=int, default=3)
    parser.add_argument('--lock', action='store_true')
    parser.add_argument('--drop-in', action='store_true')
    parser.add_argument('--no-start', action='store_true')
    options = parser.parse_args()
    reason = laboratory.why_not_here()
    if reason:
        sys.exit(reason)
    kind = RealCtdb if options.peer else TdbmeshDropIn if options.drop_in else Tdbmesh
    lock = '/srv/.ctdb/cluster.lock' if options.lock or options.peer else None
    with Lab(options.nodes, kind(cluster_lock=lock)) as lab:
        print('made in ' + lab.work)
        if not options.no_start:
            lab.start()
        obey(lab, 'where')
        prompt = 'lab> ' if os.isatty(0) else ''
        while True:
            sys.stdout.write(prompt)
            sys.stdout.flush()
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip() and not line.startswith('#'):
                if not prompt:
                    print('lab> ' + line.strip(), flush=True)
                try:
                    obey(lab, line)
                except (LabError, IndexError, ValueError) as error:
                    print(error)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        pass
