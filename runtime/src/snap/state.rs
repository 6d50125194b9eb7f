//! What a snapshot holds beside pages: the host's side of the image as data, so that it can be made
//! again in another process or on another host.

use crate::platform::maps::Maps;
use ftl_core::door::{Input, Stamp};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};

/// A host file behind a handle.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileRow {
    /// The image's name for it.
    pub handle: u64,
    /// Path on the host.
    pub path: Vec<u8>,
    /// Flags to open it with.
    pub flags: i32,
    /// Size when the snapshot was taken.
    pub size: u64,
    /// Permissions then.
    pub mode: u32,
    /// It is a regular file.
    pub regular: bool,
    /// Hash of its contents if the image has mapped it: it must be the same where it is restored.
    pub hash: Option<[u8; 32]>,
    /// Contents of a file that has no name any more.
    pub bytes: Option<Vec<u8>>,
}

/// A standard stream or inherited descriptor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamRow {
    /// The image's name for it.
    pub handle: u64,
    /// Bytes that the image has asked for.
    pub want: u64,
    /// The image waits for room.
    pub full: bool,
    /// Settings of a terminal; empty if it is none.
    pub termios: Vec<u8>,
}

/// A host socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketRow {
    /// The image's name for it.
    pub handle: u64,
    /// 0 idle, 1 connecting, 2 stream, 3 listener, 4 datagram, 5 sequenced packets.
    pub kind: u8,
    /// Family, type, protocol.
    pub domain: (i32, i32, i32),
    /// sockaddr bytes of our side.
    pub local: Vec<u8>,
    /// sockaddr bytes of the other side, for connected datagram sockets.
    pub peer: Vec<u8>,
    /// The other side of a stream, for messages.
    pub remote: Vec<u8>,
    /// As given to listen(2).
    pub backlog: i32,
    /// Permissions of the node of a UNIX socket.
    pub mode: u32,
    /// Level, name, value.
    pub options: Vec<(i32, i32, Vec<u8>)>,
    /// Bytes that the image has room for.
    pub window: u64,
    /// Names for connections that may be accepted.
    pub grants: Vec<u64>,
    /// End or failure was reported.
    pub ended: bool,
}

/// Where a recorded image is in its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogPlace {
    /// Records before the snapshot.
    pub position: u64,
    /// Queries so far.
    pub queries: u64,
    /// Outputs so far, and their running hash.
    pub outputs: (u64, u64),
    /// Memory hashes are part of it.
    pub check_memory: bool,
    /// Segment of the log that the record is in, or begins.
    pub segment: u32,
    /// Entries at which the next mark is due.
    pub marks_due: u64,
}

impl Wire for LogPlace {
    fn put(&self, out: &mut Vec<u8>) {
        (self.position, self.queries).put(out);
        (self.outputs.0, self.outputs.1, self.check_memory).put(out);
        (self.segment, self.marks_due).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<LogPlace> {
        let (position, queries) = Wire::take(src)?;
        let (count, hash, check_memory) = Wire::take(src)?;
        let (segment, marks_due) = Wire::take(src)?;
        Some(LogPlace {
            position,
            queries,
            outputs: (count, hash),
            check_memory,
            segment,
            marks_due,
        })
    }
}

/// The host's side of an image.
#[derive(Default, Debug)]
pub struct HostState {
    /// What the image was started with (`door::start`).
    pub start: Vec<u8>,
    /// The image's clock reading, and the host's real time, at that moment, ns.
    pub clock: (u64, i128),
    /// Kernel entries so far.
    pub entries: u64,
    /// Open files.
    pub files: Vec<FileRow>,
    /// Streams.
    pub streams: Vec<StreamRow>,
    /// Sockets.
    pub sockets: Vec<SocketRow>,
    /// What is under the mappings of each space.
    pub spaces: Vec<(u32, Maps)>,
    /// Inputs that had arrived and were not absorbed.
    pub inputs: Vec<(Stamp, Input)>,
    /// Place in the log, if one was written.
    pub log: Option<LogPlace>,
    /// Host interface of an image with its own TCP/IP; empty if it has none.
    pub interface: Vec<u8>,
    /// Handles of files that were mapped before, in a recorded image: they are not asked about again.
    pub mapped: Vec<u64>,
    /// Space whose process held the token. It has it again: to another one the scheduler would have to hand the task that
    /// was running, with a slice that begins anew.
    pub here: u32,
    /// An anchor of a log: without the log it is of no use, as it has none of the host's objects.
    pub anchor: bool,
    /// Directories of the start's configuration that are elsewhere since a restore, and where.
    pub moved: Vec<(Vec<u8>, Vec<u8>)>,
    /// The numbers that the image knows their files by ([`crate::platform::moved::Map::encode`]); empty if there are none. The restore's own
    /// copy goes with its run, while the directories may stay.
    pub moved_map: Vec<u8>,
    /// The contents of volumes are in the snapshot: it is not to be restored without them.
    pub held: bool,
}

impl Wire for FileRow {
    fn put(&self, out: &mut Vec<u8>) {
        self.handle.put(out);
        self.path.put(out);
        (self.flags, self.size).put(out);
        (self.mode, self.regular).put(out);
        self.hash.map(|h| h.to_vec()).put(out);
        self.bytes.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<FileRow> {
        Some(FileRow {
            handle: Wire::take(src)?,
            path: Wire::take(src)?,
            flags: Wire::take(src)?,
            size: Wire::take(src)?,
            mode: Wire::take(src)?,
            regular: Wire::take(src)?,
            hash: match <Option<Vec<u8>> as Wire>::take(src)? {
                Some(h) => Some(h.try_into().ok()?),
                None => None,
            },
            bytes: Wire::take(src)?,
        })
    }
}

impl Wire for StreamRow {
    fn put(&self, out: &mut Vec<u8>) {
        (self.handle, self.want, self.full).put(out);
        self.termios.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<StreamRow> {
        let (handle, want, full) = Wire::take(src)?;
        Some(StreamRow {
            handle,
            want,
            full,
            termios: Wire::take(src)?,
        })
    }
}

impl Wire for SocketRow {
    fn put(&self, out: &mut Vec<u8>) {
        (self.handle, self.kind, self.domain).put(out);
        self.local.put(out);
        self.peer.put(out);
        self.remote.put(out);
        (self.backlog, self.mode).put(out);
        put_list(&self.options, out);
        self.window.put(out);
        put_list(&self.grants, out);
        self.ended.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<SocketRow> {
        let (handle, kind, domain) = Wire::take(src)?;
        let (local, peer, remote) = (Wire::take(src)?, Wire::take(src)?, Wire::take(src)?);
        let (backlog, mode) = Wire::take(src)?;
        Some(SocketRow {
            handle,
            kind,
            domain,
            local,
            peer,
            remote,
            backlog,
            mode,
            options: take_list(src)?,
            window: Wire::take(src)?,
            grants: take_list(src)?,
            ended: Wire::take(src)?,
        })
    }
}

impl HostState {
    /// The image was given secrets: it is not to be written in the clear.
    pub fn has_secrets(&self) -> bool {
        crate::door::start::decode(&self.start, false).is_some_and(|(spec, _)| spec.config.secret)
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.start.put(&mut out);
        self.clock.put(&mut out);
        self.entries.put(&mut out);
        put_list(&self.files, &mut out);
        put_list(&self.streams, &mut out);
        put_list(&self.sockets, &mut out);
        put_list(&self.spaces, &mut out);
        put_list(&self.inputs, &mut out);
        self.log.put(&mut out);
        self.interface.put(&mut out);
        put_list(&self.mapped, &mut out);
        (self.here, self.anchor).put(&mut out);
        put_list(&self.moved, &mut out);
        self.moved_map.put(&mut out);
        self.held.put(&mut out);
        out
    }

    /// Reads them back; `None` if they are damaged.
    pub fn decode(mut src: &[u8]) -> Option<HostState> {
        let src = &mut src;
        let mut s = HostState {
            start: Wire::take(src)?,
            clock: Wire::take(src)?,
            entries: Wire::take(src)?,
            files: take_list(src)?,
            streams: take_list(src)?,
            sockets: take_list(src)?,
            spaces: take_list(src)?,
            inputs: take_list(src)?,
            log: Wire::take(src)?,
            interface: Wire::take(src)?,
            mapped: take_list(src)?,
            ..HostState::default()
        };
        (s.here, s.anchor) = Wire::take(src)?;
        s.moved = take_list(src)?;
        s.moved_map = Wire::take(src)?;
        s.held = Wire::take(src)?;
        src.is_empty().then_some(s)
    }
}
