"""`python3 -B tools/textbook_lab [OPTIONS]`: the textbook exercise on machines of namespaces, on tdbmesh and, if asked for,
on the real CTDB. tools/lab installs and builds, then calls this. The exit status is 0 if every check succeeded, 77 if
this machine cannot run it.
"""
import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(HERE)), 'tests', 'integration'), HERE]

import lab  # noqa: E402
import services  # noqa: E402
from exercise import Exercise  # noqa: E402
from flavours import Ours, Theirs  # noqa: E402
from hosts import TextbookLab  # noqa: E402
from transcript import show_side_by_side  # noqa: E402


def options_of(words):
    parser = argparse.ArgumentParser(prog='tools/lab', description='The textbook lab of clustered NAS: storage servers, a '
                                     'floating address, the plug pulled, a grade.')
    parser.add_argument('--nodes', type=int, choices=(2, 3), default=2, help='number of servers (2)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--silent', dest='faults', action='store_const', const=('silent',), help='only the pulled plug')
    which.add_argument('--orderly', dest='faults', action='store_const', const=('orderly',), help='only the orderly shutdown')
    which.add_argument('--cut', dest='faults', action='store_const', const=('cut',), help='only a cable: that of the server which '
                       'holds the address, to the others')
    parser.set_defaults(faults=('silent', 'orderly'))
    parser.add_argument('--rounds', type=int, default=1, metavar='N', help='each fault N times (1)')
    parser.add_argument('--default-volume', action='store_true', help='leave the lock volume as Gluster ships it')
    third = parser.add_mutually_exclusive_group()
    third.add_argument('--arbiter', dest='third', action='store_const', const='arbiter', help='a third machine that carries the '
                       'arbiter bricks of the volumes, beside two servers')
    third.add_argument('--witness', dest='third', action='store_const', const='witness', help='a third machine that only votes: with two servers the lock is '
                        'then not waited for')
    parser.add_argument('--vfs-glusterfs', action='store_true', help='Samba uses libgfapi in place of the mount')
    parser.add_argument('--with', dest='services', default='', metavar='SERVICE,...',
                        help='serve these too: %s, or all' % ', '.join(services.ALL))
    parser.add_argument('--keep', action='store_true', help='leave the machines up until Enter or Ctrl-C')
    parser.add_argument('--peer', action='store_true', help='then the same with the real CTDB, and both side by side')
    parser.add_argument('--only-peer', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--parse-only', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.rounds < 1:
        parser.error('--rounds: at least one')
    if options.third and options.nodes != 2:
        parser.error('--%s: three servers have a majority without one' % options.third)
    try:
        options.wanted = services.asked_for(options.services)
    except ValueError as error:
        parser.error(str(error))
    return options


def why_not_here(options):
    """What this machine lacks, or None."""
    reason = lab.why_not_here()
    if reason:
        return reason
    for program, package in (('glusterd', 'glusterfs-server'), ('mount.glusterfs', 'glusterfs-client'), ('smbd', 'samba'),
                             ('smbclient', 'smbclient')):
        if subprocess.run(['which', program], capture_output=True).returncode:
            return 'needs the package %s (%s is not installed)' % (package, program)
    missing = sorted({package for service in options.wanted for package in service.missing()})
    if missing:
        return 'needs the packages %s' % ' '.join(missing)
    if (options.peer or options.only_peer) and not os.path.exists('/usr/sbin/ctdbd'):
        return 'needs the package ctdb for --peer'
    if not os.path.exists('/dev/fuse'):
        return 'needs /dev/fuse (modprobe fuse)'
    return None


def wait_for_enter(machines):
    print('\nThe machines stay up. A shell on each of them, from another terminal:')
    for machine in machines.members + [m for m in (machines.arbiter, machines.workstation) if m]:
        print('%-12s %s' % (machine.name, ' '.join(machine.enter(['bash']))))
    print('Enter ends it and removes everything.', flush=True)
    sys.stdin.readline()


def main():
    options = options_of(sys.argv[1:])
    if options.parse_only:
        return 0
    reason = why_not_here(options)
    if reason:
        print('skipped: ' + reason)
        return lab.SKIP_STATUS
    flavours = ([] if options.only_peer else [Ours()]) + ([Theirs()] if options.peer or options.only_peer else [])
    runs, good = [], []
    try:
        for flavour in flavours:
            third = None if options.third == 'witness' and flavour.is_peer else options.third
            with TextbookLab(options.nodes, flavour, third) as machines:
                runs.append(Exercise(machines, options))
                good.append(runs[-1].run())
                if options.keep:
                    wait_for_enter(machines)
    except KeyboardInterrupt:
        print('\ninterrupted; everything is removed')
        return 130
    except lab.LabError as error:
        print('tools/lab: %s' % error, file=sys.stderr)
        return 1
    if len(runs) > 1:
        show_side_by_side([flavour.name for flavour in flavours], runs)
    return 0 if good[0] else 1       # CTDB's grade beside ours is not ours


if __name__ == '__main__':
    sys.exit(main())
