"""What is typed differently for tdbmesh and for the real CTDB: configuration, event scripts, how the lock volume brings
the cluster up, and what is asked for the story."""
import os

import lab

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOCK_MOUNT = '/gluster/lock'
LOCK_GROUP = 'tdbmesh-lock'      # settings of the lock volume


class Ours(lab.Tdbmesh):
    log = '/var/log/tdbmesh/log.tdbmesh'
    service, lock = 'tdbmesh', LOCK_MOUNT + '/tdbmesh.lock'
    preload = 'LD_PRELOAD=libtdbmesh-tdb.so '
    samba_options = ('ctdbd socket = /run/tdbmesh/ctdbd.socket',)
    in_use = ' is in use: '          # the log, after a view change
    story = ('tdbmesh status -v', 'tdbmesh ip', 'tdbmesh -n all ip', 'tdbmesh ping -n all')

    def environment(self, machines):
        return lab.Flavour.environment(self, machines)      # installed, so on the usual PATH

    def configure_servers(self, exercise):
        servers, services, folder = exercise.servers, exercise.services, self.config_dir
        checks = ['smb = smb 127.0.0.1:445'] + [service.check for service in services]
        exercise.edit(servers, folder + '/tdbmesh.conf', '[cluster]\n\tcluster lock = %s\n[checks]\n%s' % (
            self.lock, ''.join('\t%s\n' % check for check in checks)))
        self._share_key(exercise, servers[0], exercise.lab.members[1:])
        for script in ['50.smbd'] + [service.script for service in services]:
            exercise.on_all('tdbmesh event script enable legacy %s' % script)
        exercise.edit(servers, '/etc/default/tdbmesh', 'META=lock\n')
        witness = exercise.lab.witness
        if witness:
            exercise.edit([witness], folder + '/tdbmesh.conf', '[cluster]\n\twitness = true\n')
            exercise.type(witness, 'systemctl enable --now tdbmesh')

    def _share_key(self, exercise, first, others):
        path = self.config_dir + '/cluster.key'
        exercise.type(first, 'tdbmesh keygen %s' % path)
        with open(first.path(path), 'rb') as key:
            content = key.read()
        for other in others:
            exercise.typed(first, 'scp -p %s %s:%s' % (path, other.name, path))
            with open(other.path(path), 'wb') as out:
                out.write(content)
            os.chmod(other.path(path), 0o600)

    def switch_on(self, service, exercise):
        """Its event script starts and stops it."""

    def prepare_lock_group(self, servers):
        """The package brought it."""

    def after_lock_volume(self, exercise):
        exercise.remark("the hooks of tdbmesh mount it on %s, and enable and start tdbmesh there" % exercise.names)


class Theirs(lab.RealCtdb):
    service, lock = 'ctdb', LOCK_MOUNT + '/ctdb.lock'
    preload = ''
    in_use = 'Recovery has finished'
    story = ('ctdb status', 'ctdb ip', 'ctdb -n all ip', 'ctdb ping -n all')

    def __init__(self):
        super().__init__(cluster_lock=self.lock, tunables=())

    def configure_servers(self, exercise):
        exercise.edit(exercise.servers, self.config_dir + '/ctdb.conf',
                      '[logging]\n\tlocation = file:%s\n[cluster]\n\tcluster lock = %s\n' % (self.log, self.lock))
        exercise.on_all('mkdir -p /etc/ctdb/events/legacy')
        for script in ['50.samba'] + [service.peer_script for service in exercise.services if service.peer_script]:
            exercise.on_all('ctdb event script enable legacy %s' % script)

    def switch_on(self, service, exercise):
        """Without a script of CTDB's the service simply runs on all servers."""
        if not service.peer_script:
            exercise.on_all('systemctl enable --now %s' % service.unit, check=False)

    def prepare_lock_group(self, servers):
        """Brings the same settings of the volume, though not by a package."""
        with open(os.path.join(TREE, 'tools/gluster/%s.group' % LOCK_GROUP)) as text:
            settings = text.read()
        for server in servers:
            with open(server.path('/var/lib/glusterd/groups/' + LOCK_GROUP), 'w') as out:
                out.write(settings)

    def after_lock_volume(self, exercise):
        exercise.on_all('mkdir -p {0}; echo "%SELF:/lock {0} glusterfs _netdev 0 0" >>/etc/fstab; mount {0}'.format(LOCK_MOUNT))
        exercise.on_all('systemctl enable --now ctdb', bound=300)
