"""The client's side of the exercise: files through the floating address, until they are there, and back again."""
import re
import time

from hosts import FLOATING

USER, PASSWORD = 'smbuser', 'Secret-1'
FILES = 100


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
