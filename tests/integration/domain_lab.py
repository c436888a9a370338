"""A lab whose cluster is a member of a domain: beside what lab.py makes there is a host `dc`, a Samba AD domain controller
(directory, Kerberos, DNS). It has nothing of tdbmesh or CTDB on it."""
import glob
import re

from lab import NETWORK, PASSWORD, Lab, Node, wait_for

DOMAIN, REALM = 'DOM', 'DOM.TEST'
ADMINISTRATOR = 'Administrator'
CONTROLLER = NETWORK % 240
SERVER_NAME = 'lab.dom.test'        # what clients call the cluster: its netbios name in the domain

# what replaces lines of lab.py's smb.conf
MEMBER_OPTIONS = ('workgroup = ' + DOMAIN, 'realm = ' + REALM, 'server role = member server', 'security = ads',
                  'template shell = /bin/sh')

# samba-tool takes a second for each
ADD_USERS = '''
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
settings = LoadParm()
settings.load_default()
directory = SamDB(session_info=system_session(), lp=settings)
for name in sys.argv[2:]:
    directory.newuser(name, sys.argv[1])
'''


def missing_packages():
    needs = {'samba-ad-provision': '/usr/share/samba/setup/provision.ldif', 'samba-dsdb-modules': '/usr/lib/*/samba/ldb/samba_dsdb.so',
             'libnss-winbind': '/lib/*/libnss_winbind.so.2'}
    return [package for package, file in needs.items() if not glob.glob(file)]


def point_to_domain(node):
    node.replace('/etc/resolv.conf', 'nameserver %s\nsearch %s\n' % (CONTROLLER, REALM.lower()))
    node.replace('/etc/krb5.conf', '[libdefaults]\n\tdefault_realm = %s\n' % REALM)
    node.write('/etc/nsswitch.conf', 'passwd: files winbind\ngroup: files winbind\nhosts: files dns\n')


class DomainController(Node):
    def __init__(self, lab):
        super().__init__(lab, 239)      # so that it has the address CONTROLLER, and `port239` at the switch
        self.name = 'dc'

    def start(self):
        # whoever stands in it while the domain is made is asked for all other names, and shall not be this host itself
        self.replace('/etc/resolv.conf', '')
        self.run(['samba-tool', 'domain', 'provision', '--realm', REALM, '--domain', DOMAIN, '--server-role', 'dc', '--host-name',
                  self.name, '--host-ip', CONTROLLER, '--dns-backend', 'SAMBA_INTERNAL', '--adminpass', PASSWORD], bound=600)
        point_to_domain(self)
        self.run(['samba', '-D'])
        wait_for(self.serves, lambda: 'the domain controller to serve:\n' + self.read('/var/log/samba/log.samba'), 180, 0.2)

    def serves(self):
        """All its servers listen. Their ports are looked at, and no client is run: Samba's clients remember for a while
        whom they could not reach."""
        listed = self.run(['ss', '-Hltn']).stdout
        return all(re.search(r':%d\s' % port, listed) for port in (53, 88, 135, 389, 445, 464, 3268))

    def tool(self, *command):
        return self.run(('samba-tool',) + command).stdout

    def add_users(self, names):
        self.python(ADD_USERS, PASSWORD, *names)


class DomainLab(Lab):
    """lab.controller serves once the lab is made; the nodes find it and know its users, and have not joined yet."""

    def __init__(self, count=3, flavour=None):
        super().__init__(count, flavour)
        self.flavour.samba_options += MEMBER_OPTIONS
        self.controller = None

    def _make(self):
        super()._make()
        self.controller = DomainController(self)
        self._wire(self.controller)
        self._mount(self.controller)
        self.controller.write('/etc/hosts', '127.0.0.1 localhost\n%s dc.%s dc\n' % (CONTROLLER, REALM.lower()))
        for node in self.nodes:
            point_to_domain(node)
        self.controller.start()

    def destroy(self):
        if self.up and self.controller:
            self.controller.kill()
        super().destroy()
