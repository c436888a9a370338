"""The client's side of the exercise: files through the floating address, until they are there, and back again."""
import re
import subprocess
import time

from hosts import FLOATING

USER, PASSWORD = 'smbuser', 'Secret-1'
FILES = 100

# Knocks at a closed port of the address each 10 ms, until its stdin ends; who is there refuses. Prints the longest time
# without a refusal.
KNOCK = '''
import errno, select, socket, sys, time
poll, waiting = select.poll(), {}
poll.register(0, select.POLLIN)
longest, last = 0.0, time.monotonic()
while True:
    knock, now = socket.socket(), time.monotonic()
    knock.setblocking(False)
    knock.connect_ex((sys.argv[1], 9))
    waiting[knock.fileno()] = knock, now
    poll.register(knock, select.POLLOUT)
    while time.monotonic() < now + 0.01:
        for fd, _ in poll.poll(max(0, 1000 * (now + 0.01 - time.monotonic()))):
            if fd == 0:
                print(max(longest, time.monotonic() - last))
                sys.exit()
            poll.unregister(fd)
            with waiting.pop(fd)[0] as answered:
                if answered.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED:
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
    for fd in [fd for fd, (_, began) in waiting.items() if now - began > 0.5]:
        poll.unregister(fd)
        waiting.pop(fd)[0].close()
'''


def text_of_file(number):
    return 'file%02d %s\n' % (number, 'x' * (number * 37 % 4000))


class Workstation:
    def __init__(self, machine, transcript, slow_connect):
        self.machine, self.transcript = machine, transcript
        # A call that began with a server that is dead now is not worth waiting for; but libgfapi takes seconds to connect.
        self.first_call = 20 if slow_connect else 4

    def smb(self, command, bound=20):
        return self.machine.run(['timeout', '-s', 'KILL', str(bound), 'smbclient', '-s', '/dev/null', '//%s/data' % FLOATING,
                                 '-U', '%s%%%s' % (USER, PASSWORD), '-c', command], check=False, bound=bound + 10)

    def reaches_smb(self):
        return self.machine.run(['timeout', '1', 'bash', '-c', 'exec 3<>/dev/tcp/%s/445' % FLOATING], check=False).returncode == 0

    def begin_to_watch(self):
        """How long the address answers nobody, from now on."""
        self.knocking = self.machine.popen(['python3', '-c', KNOCK, FLOATING], stdin=subprocess.PIPE)

    def end_to_watch(self):
        out, _ = self.knocking.communicate()
        return float(out)

    def write_files(self, folder, first, last, patience=150):
        """Writes until each file is there; the time until the first one was, and whether all were."""
        for number in range(first, last + 1):
            with open(self.machine.path('/root/file%02d' % number), 'w') as out:
                out.write(text_of_file(number))
        self.transcript.typed(self.machine, 'for k in $(seq -w %02d %02d); do smbclient //%s/data -U %s -c "cd %s; lcd /root; '
                              'put file$k"; done' % (first, last, FLOATING, USER, folder))
        began, until_first, number, tries = time.monotonic(), None, first, 0
        while number <= last and time.monotonic() - began < patience:
            tries += 1
            until = min(last, number + (0 if until_first is None else 9))
            done = self.smb('cd %s; lcd /root; %s' % (folder, '; '.join('put file%02d' % n for n in range(number, until + 1))),
                            self.first_call if until_first is None else 30)
            put = len(re.findall(r'^putting file', done.stdout + done.stderr, re.M)) if done.returncode == 0 else 0
            if put == 0:
                time.sleep(0.1)
                continue
            until_first = until_first if until_first is not None else time.monotonic() - began
            number += put
        self.transcript.answer('%d files written, %d calls of smbclient%s' % (
            number - first, tries, '' if until_first is None else ', the first was there after %.1f s' % until_first))
        return until_first, number > last

    def read_files(self, folder):
        """Numbers of the files that are not there or not right, read through the floating address."""
        self.machine.run('rm -rf /root/back; mkdir /root/back')
        self.transcript.typed(self.machine, 'smbclient //%s/data -U %s -c "cd %s; lcd /root/back; prompt; mget file*"' % (
            FLOATING, USER, folder))
        self.smb('cd %s; lcd /root/back; prompt; mget file*' % folder, 60)
        return [n for n in range(FILES) if self.machine.read('/root/back/file%02d' % n) != text_of_file(n)]
