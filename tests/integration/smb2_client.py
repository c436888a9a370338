"""A small SMB2 client (dialect 2.1) for tests that must see what a file server does, not what a client library makes of it:
share modes, locks, oplocks, leases, notifications. Blocking sockets, standard library only.

    smb = Smb2(socket, 'jo', nt_hash)            # a connected socket; nt_hash in hex, as `pdbedit -L -w` shows it
    smb.tree('\\\\\\\\host\\\\share')
    file = smb.create('a.txt', access=READ | WRITE, share=SHARE_NONE)
    smb.close(file)

A refusal raises Refused with the NT status. What the server says on its own (oplock and lease breaks) is kept until
next_break() asks for it. No signing, no encryption, one message at a time except for requests that wait (post())."""
import hashlib
import hmac
import os
import struct

READ, WRITE, DELETE = 0x120089, 0x120116, 0x110000
SHARE_NONE, SHARE_READ, SHARE_WRITE, SHARE_DELETE, SHARE_ALL = 0, 1, 2, 4, 7
OPEN, CREATE, OPEN_IF, OVERWRITE_IF = 1, 2, 3, 5
DIRECTORY, DELETE_ON_CLOSE = 0x1, 0x1000
OPLOCK_NONE, OPLOCK_II, OPLOCK_EXCLUSIVE, OPLOCK_BATCH, OPLOCK_LEASE = 0, 1, 8, 9, 0xff
LEASE_R, LEASE_H, LEASE_W = 1, 2, 4
LOCK_SHARED, LOCK_EXCLUSIVE, LOCK_UNLOCK, LOCK_FAIL = 1, 2, 4, 0x10
NOTIFY_NAMES = 0x3                       # files and directories

STATUS = {'OK': 0, 'PENDING': 0x103, 'MORE_PROCESSING': 0xc0000016, 'SHARING_VIOLATION': 0xc0000043,
          'LOCK_NOT_GRANTED': 0xc0000055, 'FILE_LOCK_CONFLICT': 0xc0000054, 'NOT_FOUND': 0xc0000034,
          'ACCESS_DENIED': 0xc0000022, 'DELETE_PENDING': 0xc0000056, 'NAME_COLLISION': 0xc0000035,
          'RANGE_NOT_LOCKED': 0xc000007e, 'PATH_NOT_FOUND': 0xc000003a}
NAMES = {number: name for name, number in STATUS.items()}
NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, CREATE_FILE, CLOSE, READ_FILE, WRITE_FILE, LOCK, NOTIFY, SET_INFO, BREAK = \
    0, 1, 2, 3, 5, 6, 8, 9, 10, 15, 17, 18


class Refused(Exception):
    """The server said no. `name` is its word, or the number of one that is not in STATUS."""

    def __init__(self, command, status):
        self.status, self.name = status, NAMES.get(status, '0x%08x' % status)
        super().__init__('command %d: %s' % (command, self.name))


class Reply:
    def __init__(self, packet):
        self.status, self.command, self.flags, self.message = struct.unpack_from('<8xIH2xI4xQ', packet)
        self.tree, self.session = struct.unpack_from('<36xIQ', packet)
        self.packet, self.body = packet, packet[64:]


class Smb2:
    def __init__(self, connection, user, nt_hash, bound=60):
        self.connection = connection
        connection.settimeout(bound)
        self.message = self.session = self.tree_id = 0
        self.guid, self.breaks, self.early = os.urandom(16), [], {}
        self.acknowledge_at_once, self.nobody_waits_for = False, set()
        self.call(NEGOTIATE, struct.pack('<HHHHI16sQH', 36, 1, 1, 0, 0, self.guid, 0, 0x210))
        self._login(user, bytes.fromhex(nt_hash))

    # -- messages --

    def post(self, command, body):
        """Sends a request without waiting for its answer; wait_for_reply(its number) gets it."""
        number, self.message = self.message, self.message + 1
        head = struct.pack('<4sHHIHHIIQIIQ16x', b'\xfeSMB', 64, 1, 0, command, 64, 0, 0, number, 0, self.tree_id, self.session)
        self.connection.sendall(struct.pack('>I', len(head) + len(body)) + head + body)
        return number

    def _receive(self):
        size, = struct.unpack('>I', self._exactly(4))
        return Reply(self._exactly(size & 0xffffff))

    def _exactly(self, size):
        data = b''
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            if not part:
                raise ConnectionError('the server closed the connection')
            data += part
        return data

    def _sort_out(self, reply):
        if reply.command == BREAK and reply.message == (1 << 64) - 1:
            if self.acknowledge_at_once:
                # the file may be closed meanwhile: whatever the server says to it is right
                self.nobody_waits_for.add(self._post_acknowledge(self._read_break(reply.body)))
            else:
                self.breaks.append(reply)
        elif reply.message in self.nobody_waits_for:
            self.nobody_waits_for.remove(reply.message)
        elif reply.status != STATUS['PENDING']:
            self.early[reply.message] = reply

    def wait_for_reply(self, number, good=(0,)):
        """The final answer. Interim ones are passed over; breaks are put aside."""
        while number not in self.early:
            self._sort_out(self._receive())
        reply = self.early.pop(number)
        if reply.status not in good:
            raise Refused(reply.command, reply.status)
        return reply

    def call(self, command, body, good=(0,)):
        return self.wait_for_reply(self.post(command, body), good)

    def wait_until_pending(self, number):
        """Until the server has said that this request waits."""
        while True:
            reply = self._receive()
            if reply.message == number:
                if reply.status != STATUS['PENDING']:
                    raise Refused(reply.command, reply.status)
                return
            if reply.command == BREAK:
                self.breaks.append(reply)
            else:
                self.early[reply.message] = reply

    # -- session --

    def _setup(self, blob):
        return self.call(SESSION_SETUP, struct.pack('<HBBIIHHQ', 25, 0, 1, 0, 0, 88, len(blob), 0) + blob,
                         (0, STATUS['MORE_PROCESSING']))

    def _login(self, user, nt_hash):
        flags = 0x1 | 0x4 | 0x200 | 0x8000 | 0x80000          # unicode, target, NTLM, always sign, extended security
        first = self._setup(b'NTLMSSP\0' + struct.pack('<II16x', 1, flags))
        self.session = first.session
        offset, size = struct.unpack_from('<4xHH', first.body)
        challenge = first.packet[offset:offset + size]
        challenge = challenge[challenge.index(b'NTLMSSP\0'):]
        info_size, info_at = struct.unpack_from('<HxxI', challenge, 40)
        temp = struct.pack('<BB6xQ8s4x', 1, 1, 0x01d90000 << 32, os.urandom(8)) + challenge[info_at:info_at + info_size] + bytes(4)
        key = hmac.digest(nt_hash, user.upper().encode('utf-16-le'), hashlib.md5)
        nt = hmac.digest(key, challenge[24:32] + temp, hashlib.md5) + temp
        fields, data = b'', b''
        for part in (bytes(24), nt, b'', user.encode('utf-16-le'), b'', b''):
            fields += struct.pack('<HHI', len(part), len(part), 64 + len(data))
            data += part
        last = self._setup(b'NTLMSSP\0' + struct.pack('<I', 3) + fields + struct.pack('<I', flags) + data)
        if last.status:
            raise Refused(SESSION_SETUP, last.status)

    def tree(self, path):
        name = path.encode('utf-16-le')
        self.tree_id = self.call(TREE_CONNECT, struct.pack('<HHHH', 9, 0, 72, len(name)) + name).tree

    def hang_up(self):
        self.connection.close()

    # -- files --

    def post_create(self, name, access=READ, share=SHARE_ALL, disposition=OPEN_IF, options=0, oplock=OPLOCK_NONE, lease=None):
        name = name.encode('utf-16-le')
        context, buffer = b'', name + bytes(-len(name) % 8)
        if lease is not None:
            oplock, (key, state) = OPLOCK_LEASE, lease
            context = struct.pack('<IHHHHI4s4x16sII8x', 0, 16, 4, 0, 24, 32, b'RqLs', key, state, 0)
        at = 120 + len(buffer) if context else 0
        body = struct.pack('<HBBIQQIIIIIHHII', 57, 0, oplock, 2, 0, 0, access, 0, share, disposition, options, 120, len(name),
                           at, len(context))
        return self.post(CREATE_FILE, body + (buffer + context or bytes(8)))

    def finish_create(self, number):
        """The file, and as self.granted the oplock level, or the lease state if a lease was asked for."""
        reply = self.wait_for_reply(number)
        self.granted = reply.body[2]
        at, size = struct.unpack_from('<80xII', reply.body)
        if self.granted == OPLOCK_LEASE and size:
            context = reply.packet[at:at + size]
            data_at, = struct.unpack_from('<10xH', context)
            self.granted, = struct.unpack_from('<I', context, data_at + 16)
        return reply.body[64:80]

    def create(self, name, **how):
        return self.finish_create(self.post_create(name, **how))

    def close(self, file):
        self.call(CLOSE, struct.pack('<HHI16s', 24, 0, 0, file))

    def write(self, file, data, offset=0):
        self.call(WRITE_FILE, struct.pack('<HHIQ16sIIHHI', 49, 112, len(data), offset, file, 0, 0, 0, 0, 0) + data)

    def read(self, file, size, offset=0):
        reply = self.call(READ_FILE, struct.pack('<HBBIQ16sIIIHHx', 49, 0, 0, size, offset, file, 0, 0, 0, 0, 0))
        at, length = struct.unpack_from('<2xBxI', reply.body)
        return reply.packet[at:at + length]

    def post_lock(self, file, offset, size, flags):
        return self.post(LOCK, struct.pack('<HHI16sQQII', 48, 1, 0, file, offset, size, flags, 0))

    def lock(self, file, offset, size, flags=LOCK_EXCLUSIVE | LOCK_FAIL):
        self.wait_for_reply(self.post_lock(file, offset, size, flags))

    def unlock(self, file, offset, size):
        self.lock(file, offset, size, LOCK_UNLOCK)

    def _set_info(self, file, kind, data):
        self.call(SET_INFO, struct.pack('<HBBIHHI16s', 33, 1, kind, len(data), 96, 0, 0, file) + data)

    def rename(self, file, name):
        name = name.encode('utf-16-le')
        self._set_info(file, 10, struct.pack('<B7xQI', 0, 0, len(name)) + name)

    def delete_on_close(self, file, yes=True):
        self._set_info(file, 13, bytes([yes]))

    def post_notify(self, folder, filters=NOTIFY_NAMES, recursive=False):
        return self.post(NOTIFY, struct.pack('<HHI16sII', 32, recursive, 4096, folder, filters, 0))

    def notified(self, number):
        """[(action, name)] of a notify; actions: 1 added, 2 removed, 4 and 5 old and new name."""
        reply = self.wait_for_reply(number)
        at, size = struct.unpack_from('<2xHI', reply.body)
        data, seen, here = reply.packet[at:at + size], [], 0
        while data:
            following, action, length = struct.unpack_from('<III', data, here)
            seen.append((action, data[here + 12:here + 12 + length].decode('utf-16-le')))
            if not following:
                break
            here += following
        return seen

    # -- breaks --

    def next_break(self):
        """('oplock', file, level) or ('lease', key, new state); waits for it."""
        while not self.breaks:
            self._sort_out(self._receive())
        return self._read_break(self.breaks.pop(0).body)

    @staticmethod
    def _read_break(body):
        if struct.unpack_from('<H', body)[0] == 44:
            key, _, new = struct.unpack_from('<8x16sII', body)
            return 'lease', key, new
        return 'oplock', body[8:24], body[2]

    def acknowledge(self, broken):
        self.wait_for_reply(self._post_acknowledge(broken))

    def _post_acknowledge(self, broken):
        kind, what, state = broken
        if kind == 'lease':
            return self.post(BREAK, struct.pack('<HHI16sIQ', 36, 0, 0, what, state, 0))
        return self.post(BREAK, struct.pack('<HBBI16s', 24, state, 0, 0, what))
