"""What is served beside SMB, each by a name: `tools/lab --with nfs,httpd,ftp,iscsi,winbind`.

A service says how it is configured on all servers, which event script starts and stops it, which built-in check watches
it, and how a client sees that it is served through the floating address. The data is that of the shares.
"""
import os
import shutil

from hosts import FLOATING

WEB_ROOT = '/data/www'
IQN = 'iqn.2001-04.example.lab:disk'
DISK_BYTES = 16 << 20
# without systemd nobody opens these two's sockets beforehand
UNITS = {'dbus': '''[Service]
Type=simple
ExecStartPre=-/bin/mkdir -p /run/dbus
ExecStart=/usr/bin/dbus-daemon --system --nofork --nopidfile
''', 'rpcbind': '''[Service]
Type=simple
ExecStart=/sbin/rpcbind -f -w
'''}


class Service:
    name, unit, script, check = '', '', '', ''
    peer_script = None         # CTDB's own for it; without one the service simply runs on all servers
    needs = {}                 # {program: package}

    def missing(self):
        path = os.environ.get('PATH', '') + ':/usr/sbin:/sbin'
        return sorted({package for program, package in self.needs.items()
                       if not (os.path.exists(program) if program.startswith('/') else shutil.which(program, path=path))})

    def configure(self, exercise):
        """Files and folders, once."""

    def put(self, exercise, word):
        """Leaves something named after `word` for the client to ask for; where it can, through the service."""
        return True

    def get(self, exercise, word):
        """True if the client gets, through the floating address, what put() left."""
        raise NotImplementedError

    def exercise_before(self, exercise, kind, name):
        """`name` is that of the round, `kind` that of the check."""
        word = name + '-before'
        good = exercise.until(lambda: self.put(exercise, word)) is not None and \
            exercise.until(lambda: self.get(exercise, word)) is not None
        exercise.check('%s: %s is served through %s before the fault' % (kind, self.name, FLOATING), good)

    def exercise_after(self, exercise, kind, name):
        """What was left before the fault is still there, and more can be left."""
        word = name + '-after'
        good = exercise.until(lambda: self.get(exercise, name + '-before')) is not None and \
            exercise.until(lambda: self.put(exercise, word)) is not None and \
            exercise.until(lambda: self.get(exercise, word)) is not None
        exercise.check('%s: %s is served through %s after the fault' % (kind, self.name, FLOATING), good)

    def read_back(self, exercise, word, command):
        done = exercise.type(exercise.lab.workstation, 'timeout -k 1 15 ' + command, check=False, show=False)
        return done.stdout == text_of(word)


def text_of(word):
    return 'this is %s\n' % word


class Nfs(Service):
    name, unit, script, check = 'nfs', 'nfs-ganesha', '60.ganesha', 'nfs = tcp 127.0.0.1:2049'
    needs = {'/usr/bin/ganesha.nfsd': 'nfs-ganesha', '/usr/lib/x86_64-linux-gnu/ganesha/libfsalgluster.so': 'nfs-ganesha-gluster',
             'nfs-cat': 'libnfs-utils', 'dbus-daemon': 'dbus'}

    def configure(self, exercise):
        for server in exercise.servers:         # of the machine, not of the exercise: nothing an administrator types
            for unit, text in UNITS.items():
                with open(server.path('/etc/systemd/system/%s.service' % unit), 'w') as out:
                    out.write(text)
            server.run('systemctl enable --now dbus')
        exercise.edit(exercise.servers, '/etc/ganesha/ganesha.conf', (
            'NFS_CORE_PARAM { Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }\n'
            'NFSv4 { Grace_Period = 10; Lease_Lifetime = 5; }\n'
            'EXPORT { Export_Id = 1; Path = "/"; Pseudo = "/data"; Access_Type = RW; Squash = No_Root_Squash;\n'
            '\tSecType = sys; FSAL { Name = GLUSTER; Hostname = localhost; Volume = data; } }\n'))

    @staticmethod
    def url(word):
        return '"nfs://%s/data/nfs-%s?version=4"' % (FLOATING, word)

    def put(self, exercise, word):
        with open(exercise.lab.workstation.path('/root/nfs-' + word), 'w') as out:
            out.write(text_of(word))
        return exercise.type(exercise.lab.workstation, 'timeout -k 1 15 nfs-cp /root/nfs-%s %s' % (word, self.url(word)),
                             check=False, show=False).returncode == 0

    def get(self, exercise, word):
        return self.read_back(exercise, word, 'nfs-cat ' + self.url(word))


class Web(Service):
    """A file below WEB_ROOT, written by SMB."""
    def configure(self, exercise):
        exercise.type(exercise.servers[0], 'mkdir -p -m 1777 %s' % WEB_ROOT)

    def put(self, exercise, word):
        name = '%s-%s' % (self.name, word)
        with open(exercise.lab.workstation.path('/root/' + name), 'w') as out:
            out.write(text_of(word))
        done = exercise.station.smb('cd www; lcd /root; put %s' % name)
        return done.returncode == 0

    def get(self, exercise, word):
        return self.read_back(exercise, word, 'curl -sS -m 10 %s://%s/%s-%s' % (self.scheme, FLOATING, self.name, word))


class Httpd(Web):
    name, unit, script, check, scheme = 'httpd', 'apache2', '41.web', 'web = http 127.0.0.1:80/', 'http'
    peer_script = '41.httpd'
    needs = {'/usr/sbin/apachectl': 'apache2', '/etc/apache2/apache2.conf': 'apache2', 'curl': 'curl'}

    def configure(self, exercise):
        super().configure(exercise)
        exercise.edit(exercise.servers, '/etc/apache2/sites-enabled/000-default.conf', (
            'ServerName lab\n<VirtualHost *:80>\n\tDocumentRoot %s\n\t<Directory %s>\n\t\tOptions Indexes\n'
            '\t\tRequire all granted\n\t</Directory>\n</VirtualHost>\n' % (WEB_ROOT, WEB_ROOT)))


class Ftp(Web):
    name, unit, script, check, scheme = 'ftp', 'vsftpd', '40.ftpd', 'ftp = tcp 127.0.0.1:21', 'ftp'
    peer_script = '40.vsftpd'
    needs = {'vsftpd': 'vsftpd', 'curl': 'curl'}

    def configure(self, exercise):
        super().configure(exercise)
        # vsftpd serves no anonymous root that the anonymous user may write to
        exercise.type(exercise.servers[0], 'mkdir -p /data/ftp')
        exercise.edit(exercise.servers, '/etc/vsftpd.conf', (
            'listen=YES\nanonymous_enable=YES\nlocal_enable=NO\nftp_username=daemon\nanon_root=/data/ftp\n'
            'anon_world_readable_only=NO\nsecure_chroot_dir=/var/run/vsftpd/empty\nseccomp_sandbox=NO\n'))

    def put(self, exercise, word):
        done = exercise.type(exercise.servers[exercise.lab.holders()[0]],
                             "printf 'this is %s\\n' >/data/ftp/ftp-%s" % (word, word), check=False)
        return done.returncode == 0


class Iscsi(Service):
    name, unit, script, check = 'iscsi', 'tgt', '70.tgtd', 'iscsi = tcp 127.0.0.1:3260'
    needs = {'tgtd': 'tgt', 'iscsi-readcapacity16': 'libiscsi-bin'}

    def configure(self, exercise):
        exercise.type(exercise.servers[0], 'mkdir -p /data/iscsi; truncate -s %d /data/iscsi/disk' % DISK_BYTES)
        exercise.edit(exercise.servers, '/etc/tgt/conf.d/lab.conf',
                      '<target %s>\n\tbacking-store /data/iscsi/disk\n</target>\n' % IQN)

    def get(self, exercise, word):
        said = exercise.type(exercise.lab.workstation, 'timeout -k 1 15 iscsi-readcapacity16 iscsi://%s/%s/1' % (FLOATING, IQN),
                             check=False).stdout
        return 'RETURNED LOGICAL BLOCK ADDRESS:%d' % (DISK_BYTES // 512 - 1) in said or str(DISK_BYTES) in said


class Winbind(Service):
    name, unit, script = 'winbind', 'winbind', '49.winbindd'
    check = 'winbind = exec /usr/bin/wbinfo -p every=5 limit=10'
    peer_script = '49.winbind'
    needs = {'winbindd': 'winbind', 'wbinfo': 'winbind'}
    sid = None

    def get(self, exercise, word):
        """The server that has the address gives the account the same SID, whichever server that is."""
        holders = exercise.lab.holders()
        if len(holders) != 1:
            return False
        said = exercise.type(exercise.servers[holders[0]], "timeout -k 1 15 wbinfo --name-to-sid 'LAB\\smbuser'", check=False).stdout
        if self.sid is None and said.startswith('S-1-5-21-'):
            self.sid = said
        return self.sid is not None and said == self.sid


ALL = {service.name: service for service in (Nfs, Httpd, Ftp, Iscsi, Winbind)}


def asked_for(words):
    """The services of a comma separated list ('all' for all); ValueError with a line for people."""
    names = [word for word in (words or '').split(',') if word]
    names = list(ALL) if names == ['all'] else names
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise ValueError('there is no service %s; there are: %s, all' % (', '.join(unknown), ', '.join(ALL)))
    return [ALL[name]() for name in dict.fromkeys(names)]
