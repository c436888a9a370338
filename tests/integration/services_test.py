#!/usr/bin/python3 -B
"""Real services behind a public address, with their real clients: the node that serves loses its power in the middle of
the work, the client goes on at the same address on another node, and what it got or left there is complete and right.

    services_test.py           64 MiB a copy; TDBMESH_SERVICES_MIB=1024 for 1 GiB

A service whose packages are not installed is skipped by name: smbd/smbclient, nfs-ganesha/libnfs-utils, apache2/curl,
vsftpd/curl, tgt/libiscsi7, winbindd/wbinfo.
"""
import ctypes.util
import hashlib
import os
import shutil
import subprocess
import threading
import time
import unittest

from lab import PASSWORD, asked_for_peer, main, wait_for
from public_lab import PublicLab
from samba_lab import USER, SHARE, SambaScenario, start_services

SIZE = int(os.environ.get('TDBMESH_SERVICES_MIB', '64')) << 20
PATIENCE = 120       # seconds for a client's whole work
HTTPD = '''ServerRoot /run
ServerName lab
PidFile /run/httpd.pid
ErrorLog /run/httpd.log
Listen 80
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
DocumentRoot /srv/files
<Directory />
Require all granted
</Directory>
'''
FTPD = '''listen=YES
background=YES
anonymous_enable=YES
local_enable=NO
ftp_username=daemon
anon_root=/srv/files
secure_chroot_dir=/run/empty
anon_max_rate=%d
seccomp_sandbox=NO
'''
GANESHA = '''NFS_CORE_PARAM {
  Protocols = 4;
  Enable_NLM = false;
  Enable_RQUOTA = false;
}
NFSv4 {
  Graceless = true;
  Only_Numeric_Owners = true;
}
EXPORT {
  Export_Id = 1;
  Path = /srv/files;
  Pseudo = /files;
  Access_Type = RW;
  Squash = No_Root_Squash;
  SecType = sys;
  Protocols = 4;
  Transports = TCP;
  FSAL { Name = VFS; }
}
'''
TARGET = 'iqn.2026-01.lab:one'
TGT = '''tgtd
until tgtadm --lld iscsi --op new --mode target --tid 1 -T %s 2>/dev/null; do sleep 0.1; done
tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b /srv/files/lun
tgtadm --lld iscsi --op bind --mode target --tid 1 -I ALL
''' % TARGET
# Writes FILE to lun 1 of TARGET at ADDRESS with libiscsi, which logs in again by itself when its connection ends, at most
# BYTES a second; prints how many bytes are written after each piece. Then flushes.
ISCSI = r'''
import ctypes, sys, time
address, target, path, rate = sys.argv[1:4] + [int(sys.argv[4])]
lib, PIECE = ctypes.CDLL("libiscsi.so.7"), 1 << 18
for name, result in (("iscsi_create_context", "p"), ("iscsi_write10_sync", "p"), ("iscsi_synchronizecache10_sync", "p"),
                     ("iscsi_get_error", "s")):
    getattr(lib, name).restype = ctypes.c_void_p if result == "p" else ctypes.c_char_p
iscsi = ctypes.c_void_p(lib.iscsi_create_context(b"iqn.2026-01.lab:client"))
lib.iscsi_set_targetname(iscsi, target.encode()); lib.iscsi_set_session_type(iscsi, 2)
if lib.iscsi_full_connect_sync(iscsi, address.encode() + b":3260", 1): sys.exit(lib.iscsi_get_error(iscsi).decode())
def good(ask):
    while True:
        task = ask()
        if task and ctypes.c_int.from_address(task).value == 0:     # the status is the first word of struct scsi_task
            return lib.scsi_free_scsi_task(ctypes.c_void_p(task))
        error = lib.iscsi_get_error(iscsi).decode()
        if "UNIT_ATTENTION" not in error: sys.exit("failed: " + error)     # which any target says once to a new login
done, began = 0, time.monotonic()
with open(path, "rb") as data:
    while piece := data.read(PIECE):
        good(lambda: lib.iscsi_write10_sync(iscsi, 1, ctypes.c_uint32(done // 512), piece, ctypes.c_uint32(len(piece)), 512,
                                            0, 0, 0, 0, 0))
        done += len(piece)
        print(done, flush=True)
        time.sleep(max(0, began + done / rate - time.monotonic()))
good(lambda: lib.iscsi_synchronizecache10_sync(iscsi, 1, 0, 0, 0, 0))
'''


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')]
    return unittest.skipIf(missing, 'not installed: ' + ' '.join(missing))


def digest(path):
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


@unittest.skipIf(asked_for_peer(), 'shows what tdbmesh does')
class Services(SambaScenario):
    @classmethod
    def make_lab(cls):
        return PublicLab(cls.node_count)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = os.path.join(cls.lab.work, 'shared', 'files')
        os.makedirs(cls.files)
        cls.big = os.path.join(cls.files, 'big')
        with open(cls.big, 'wb') as out:
            for _ in range(SIZE >> 20):
                out.write(os.urandom(1 << 20))
        os.chmod(cls.big, 0o644)
        cls.right = digest(cls.big)

    def setUp(self):
        super().setUp()
        self.lab.wait_all_hosted()
        leader = wait_for(lambda: [n.leader() for n in self.nodes if n.leader() is not None], 'a leader')[0]
        self.victim = next(node for node in self.nodes if node.number != leader)
        self.address = next(a for a, who in self.lab.holders().items() if who == [self.victim.number] and '.' in a)
        self.got = os.path.join(self.lab.work, 'got')
        self.addCleanup(lambda: os.path.exists(self.got) and os.unlink(self.got))

    def client(self, *command):
        return subprocess.Popen(self.lab.client.enter([str(word) for word in command]), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def answers(self, port, address=None):
        probe = 'import socket; socket.create_connection(("%s", %d), 1).close()' % (address or self.address, port)
        with self.client('/usr/bin/python3', '-c', probe) as process:
            return process.wait() == 0

    def until_done(self, command, done):
        """Runs the client as a patient user does: again whenever it gives up, until `done()`."""
        said, tries, end = [], 0, time.monotonic() + PATIENCE
        while not done():
            tries += 1
            process = self.client(*command)
            timer = threading.Timer(max(0.1, end - time.monotonic()), process.kill)
            timer.start()
            said.append(process.communicate()[0][-300:])
            timer.cancel()
            self.assertLess(time.monotonic(), end, '\n'.join(said[-5:]))
        return tries

    def strike_when(self, begun):
        """In a thread: takes the victim's power when the work has begun. Returns the thread and a list: when it was."""
        when = []

        def run():
            wait_for(begun, 'the work to begin')
            when.append(time.monotonic())
            self.lab.power_off(self.victim)
        thread = threading.Thread(target=run)
        thread.start()
        return thread, when

    def assert_moved(self):
        wait_for(lambda: [n for n in self.lab.holders()[self.address] if n != self.victim.number], 'another host')

    def download(self, url):
        """A slow download that is interrupted in its middle and resumed where it stopped."""
        size = lambda: os.path.getsize(self.got) if os.path.exists(self.got) else 0
        thread, when = self.strike_when(lambda: size() > SIZE // 8)
        tries = self.until_done(['curl', '-sS', '--connect-timeout', '1', '--speed-limit', '1', '--speed-time', '1',
                                 '--limit-rate', str(SIZE // 4), '-C', '-', '-o', self.got, url], lambda: size() >= SIZE)
        thread.join()
        self.assertEqual(digest(self.got), self.right)
        self.assertGreater(tries, 1, 'the download was interrupted')
        self.assert_moved()
        print('%s: whole after %.1f s, %d tries' % (url.split(':')[0], time.monotonic() - when[0], tries))

    def copy_in_a_loop(self, client, there, *command):
        """Runs `command`, which copies the big file to self.got by way of `there` (as seen from outside), again and again
        while the victim loses its power; until whole copies were made before and after."""
        finished = []

        def struck_and_right():
            if os.path.exists(self.got) and os.path.getsize(self.got) == SIZE:
                finished.append((time.monotonic(), digest(self.got)))
                os.unlink(self.got)
            return when and finished and finished[-1][0] > when[0] + 1 and len(finished) > 1

        def in_the_middle():
            try:
                return finished and SIZE // 8 < os.path.getsize(self.got) < SIZE
            except FileNotFoundError:      # between two copies
                return False
        thread, when = self.strike_when(in_the_middle)
        tries = self.until_done(command, struck_and_right)
        thread.join()
        self.assertEqual({seen for _, seen in finished}, {self.right}, 'every copy that ended well is right')
        self.assertEqual(digest(there), self.right)
        self.assert_moved()
        after = next(at for at, _ in finished if at > when[0])
        print('%s: %d copies of %d MiB, %d tries, the next whole copy %.1f s after the power was gone' % (
            client, len(finished), SIZE >> 20, tries, after - when[0]))

    @needs('smbd', 'smbclient')
    def test_smbd_and_a_copying_smbclient(self):
        start_services(self.lab, self.nodes)
        wait_for(lambda: self.answers(445), 'smbd to answer')
        self.copy_in_a_loop('smbclient', os.path.join(self.lab.work, 'shared', 'share', 'copy'),
                            'timeout', '60', 'smbclient', '-s', '/dev/null', '-U', '%s%%%s' % (USER, PASSWORD), '-c',
                            'put %s copy; get copy %s' % (self.big, self.got), '//%s/%s' % (self.address, SHARE))

    @needs('ganesha.nfsd', 'nfs-cp')
    def test_nfs_ganesha_and_a_copying_nfs_cp(self):
        for node in self.nodes:
            with open(node.path('/run/ganesha.conf'), 'w') as out:
                out.write(GANESHA)
            if not node.pids('ganesha.nfsd'):
                node.run(['sh', '-c', 'mkdir -p /var/lib/nfs/ganesha; ganesha.nfsd -f /run/ganesha.conf -L /run/ganesha.log '
                          '-p /run/ganesha.pid'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for address in self.lab.addresses:      # on every node
            wait_for(lambda: self.answers(2049, address), 'nfs-ganesha to answer')
        # Only reading: libnfs 4.0.0 cannot encode the writes that its own nfs-cp asks for over NFSv4.
        # And it writes no file that is there already.
        self.copy_in_a_loop('nfs-cp', self.big, 'timeout', '30', 'sh', '-c', 'rm -f "$1"; exec nfs-cp "$0" "$1"',
                            'nfs://%s/files/big?version=4' % self.address, self.got)

    @needs('tgtd', 'tgtadm')
    @unittest.skipIf(not ctypes.util.find_library('iscsi'), 'not installed: libiscsi')
    def test_tgt_and_a_writing_libiscsi(self):
        """One session from the first byte to the last: libiscsi itself logs in again on the other node."""
        lun = os.path.join(self.files, 'lun')
        with open(lun, 'wb') as out:
            out.truncate(SIZE)
        for node in self.nodes:
            node.run(['sh', '-ec', TGT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for address in self.lab.addresses:
            wait_for(lambda: self.answers(3260, address), 'tgtd to answer')
        written = [0]
        client = self.client('/usr/bin/python3', '-c', ISCSI, self.address, TARGET, self.big, SIZE // 4)
        thread, when = self.strike_when(lambda: written[0] > SIZE // 8 or client.poll() is not None)
        timer = threading.Timer(PATIENCE, client.kill)
        timer.start()
        said = []
        with client:
            for line in client.stdout:
                said.append(line)
                if line.strip().isdigit():
                    written[0] = int(line)
        ended = client.returncode
        timer.cancel()
        thread.join()
        self.assertEqual(ended, 0, ''.join(said[-3:]))
        self.assertEqual(digest(lun), self.right)
        self.assert_moved()
        print('libiscsi: everything written %.1f s after the power was gone, in one session' % (time.monotonic() - when[0]))

    @needs('apache2', 'curl')
    def test_apache_and_a_downloading_curl(self):
        for node in self.nodes:
            with open(node.path('/run/httpd.conf'), 'w') as out:
                out.write(HTTPD)
            if not node.pids('apache2'):
                node.run(['/usr/sbin/apache2', '-f', '/run/httpd.conf', '-k', 'start'], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
        wait_for(lambda: self.answers(80), 'apache2 to answer')
        self.download('http://%s/big' % self.address)

    @needs('vsftpd', 'curl')
    def test_vsftpd_and_a_downloading_curl(self):
        for node in self.nodes:
            with open(node.path('/run/vsftpd.conf'), 'w') as out:
                out.write(FTPD % (SIZE // 4))
            os.makedirs(node.path('/run/empty'), exist_ok=True)
            if not node.pids('vsftpd'):
                node.run(['/usr/sbin/vsftpd', '/run/vsftpd.conf'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.answers(21), 'vsftpd to answer')
        self.download('ftp://%s/big' % self.address)

    @needs('winbindd', 'wbinfo')
    def test_winbind_answers_where_the_address_went(self):
        start_services(self.lab, self.nodes)
        survivors = [node for node in self.nodes if node is not self.victim]
        asked = lambda node: node.samba(['wbinfo', '--name-to-sid', 'LAB\\' + USER], check=False).stdout
        sid = asked(self.victim)
        self.assertIn('S-1-5-21-', sid)
        self.lab.power_off(self.victim)
        self.assert_moved()
        for node in survivors:
            self.assertEqual(wait_for(lambda: asked(node), 'winbindd of node %d' % node.number), sid)


if __name__ == '__main__':
    main()
