//! `ftvm log`: looks at logs without running anything.

use crate::door::Ask;
use crate::door::anchor;
use crate::door::files::{self, Identity};
use crate::door::read::{Reader, segments};
use crate::door::record::{Stats, build_id};
use ftl_core::door::Input;
use ftl_core::log::{Coder, Record, StampHits, Wire};
use ftl_core::predict::Hits;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What to do with a log.
#[derive(clap::Subcommand)]
pub enum LogVerb {
    /// What a log holds, and how well prediction did
    Info(InfoArgs),
    /// Copy the files that the recorded image mapped into the log, so that it needs nothing else
    Pack(PackArgs),
    /// Print the records of a log, a line each, and go on while it is being written, until the recording ends
    Follow(FollowArgs),
}

/// Options of `log follow`.
#[derive(clap::Args)]
pub struct FollowArgs {
    /// Begin with what comes from now on
    #[arg(long)]
    new: bool,
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// Options of `log pack`.
#[derive(clap::Args)]
pub struct PackArgs {
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// Options of `log info`.
#[derive(clap::Args)]
pub struct InfoArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// Runs the verb; returns the exit code.
pub fn main(verb: &LogVerb) -> i32 {
    let args = match verb {
        LogVerb::Info(args) => args,
        LogVerb::Pack(args) => return pack(&args.log),
        LogVerb::Follow(args) => return follow(args),
    };
    match Info::read(&args.log) {
        Ok(info) => {
            println!("{}", if args.json { info.json() } else { info.text() });
            0
        }
        Err(e) => {
            eprintln!("ftvm: {e}");
            crate::door::replay::EXIT_INCOMPATIBLE
        }
    }
}

fn pack(dir: &Path) -> i32 {
    let mut log = match Reader::open(dir) {
        Ok(log) => log,
        Err(e) => {
            eprintln!("ftvm: {e}");
            return crate::door::replay::EXIT_INCOMPATIBLE;
        }
    };
    let (mut copied, mut code) = (0, 0);
    while let Some(records) = log.records() {
        for r in records {
            let Record::Answer { kind, bytes, .. } = r else {
                continue;
            };
            if kind != Ask::MappedFile as u16 {
                continue;
            }
            let Some(Some(identity)) = <Option<Identity> as Wire>::take(&mut &*bytes) else {
                continue;
            };
            match files::pack(dir, &identity) {
                Ok(new) => copied += u32::from(new),
                Err(e) => {
                    eprintln!("ftvm: {e}");
                    code = 1;
                }
            }
        }
    }
    eprintln!("ftvm: {copied} files copied into {}", dir.display());
    code
}

/// How long a log without news is left alone.
/// So often nobody had the log open for writing, before that counts.
const LOOKS_WITHOUT_WRITER: u32 = 20;
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

fn follow(args: &FollowArgs) -> i32 {
    use std::io::Write;
    let mut log = match Reader::open(&args.log) {
        Ok(log) => log,
        Err(e) => {
            eprintln!("ftvm: {e}");
            return crate::door::replay::EXIT_INCOMPATIBLE;
        }
    };
    let mut out = std::io::stdout().lock();
    let mut quiet = args.new;
    let mut idle = 0;
    loop {
        let before = log.position;
        let Some(records) = log.records() else {
            quiet = false;
            if !log.look_again() {
                let why = log
                    .ended_by
                    .map_or("what comes next was deleted".to_string(), |e| e.to_string());
                eprintln!("ftvm: log {}: {why}", args.log.display());
                return crate::door::replay::EXIT_INCOMPATIBLE;
            }
            // One that has just been closed may have a follower a moment later.
            idle = match log.is_written() {
                true => 0,
                false => idle + 1,
            };
            if idle > LOOKS_WITHOUT_WRITER {
                let what = match args.log.is_dir() {
                    true => {
                        "nothing writes it any more, and the image's end is not in it: the recorder was killed, or its disk was full"
                    }
                    false => "it was moved or deleted",
                };
                eprintln!("ftvm: log {}: {what}", args.log.display());
                return 1;
            }
            std::thread::sleep(LOOK_AGAIN);
            continue;
        };
        idle = 0;
        let mut over = false;
        let first = log.position - records.len() as u64;
        debug_assert!(first >= before);
        for (n, r) in (first..).zip(&records) {
            // Behind the counts nothing comes but the image's end.
            over |= matches!(r, Record::Stats(_));
            if !quiet && writeln!(out, "{n:>8}  {}", line(r)).is_err() {
                return 0;
            }
        }
        let _ = out.flush();
        if over {
            return 0;
        }
    }
}

/// A record in a line.
fn line(r: &Record) -> String {
    match r {
        Record::Start(_) => "start".to_string(),
        Record::Clock { e, v: Some(v) } => format!("clock      read {e}: steps to {v} ns"),
        Record::Clock { e, v: None } => format!("clock      read {e}: holds"),
        Record::Absorb { point, inputs } => {
            let kinds: Vec<String> = inputs.iter().map(|(_, i)| input_line(i)).collect();
            format!("inputs     point {point}: {}", kinds.join(", "))
        }
        Record::Answer { n, kind, bytes } => {
            format!(
                "answer     query {n}: {}, {} bytes",
                Ask::name(*kind),
                bytes.len()
            )
        }
        Record::Cut { e, bytes } => format!("cut        after entry {e}, {} bytes", bytes.len()),
        Record::Part(bytes) => format!("part       of the next cut, {} bytes", bytes.len()),
        Record::Check { n, hash } => format!("check      {n} outputs: {hash:016x}"),
        Record::Mark { e, .. } => format!("mark       after entry {e}"),
        Record::Anchor { e, bytes } => {
            let number = anchor::Place::take(&mut &bytes[..]).map_or(0, |p| p.number);
            format!("anchor     {number} after entry {e}")
        }
        Record::End(s) if s & 0x7f == 0 => format!("end        exit code {}", s >> 8 & 0xff),
        Record::End(s) => format!("end        signal {}", s & 0x7f),
        Record::Stats(_) => "counts".to_string(),
    }
}

fn input_line(i: &Input) -> String {
    match i {
        Input::Data(h, b) => format!("{} bytes of {}", b.len(), h.0),
        Input::Datagram(h, _, b, _) => format!("a datagram of {} bytes for {}", b.len(), h.0),
        Input::Control(h, _) => format!("control messages of the next datagram for {}", h.0),
        Input::Packet(_, f) => format!("a packet of {} bytes", f.len()),
        Input::Eof(h) => format!("the end of {}", h.0),
        Input::Signal(n) => format!("signal {n}"),
        Input::Exec(order) => {
            let words: Vec<_> = order.argv.iter().map(|a| String::from_utf8_lossy(a)).collect();
            format!("exec {}", words.join(" "))
        }
        Input::Accepted { listener, conn, .. } => format!("connection {} at {}", conn.0, listener.0),
        other => {
            let text = format!("{other:?}");
            text.chars().take(60).collect()
        }
    }
}

/// The log ends with the image's end.
pub fn is_whole(dir: &Path) -> bool {
    Info::read(dir).is_ok_and(|i| i.status.is_some())
}

/// Pages of a cut that came before its own record.
const CUT_PARTS: &str = "cut, parts of its pages";

/// Count and encoded bytes of records of one kind.
type Kinds = BTreeMap<String, (u64, u64)>;

#[derive(Default)]
struct Info {
    image: u64,
    same_build: bool,
    frames: u64,
    /// Bytes of frames, before compression.
    bytes: u64,
    /// Bytes of records in them.
    payload: u64,
    /// Bytes of the segments' files.
    disk: u64,
    records: u64,
    kinds: Kinds,
    /// Bytes that were received or read: what came from outside, which any recorder keeps.
    input_bytes: u64,
    cut_pages: u64,
    /// Of what inputs' stamps leave open.
    stamps: StampHits,
    stats: Option<Stats>,
    status: Option<i32>,
    damage: Option<String>,
    /// It begins where the image did.
    from_start: bool,
    anchors: Vec<anchor::File>,
}

impl Info {
    fn read(dir: &Path) -> Result<Info, String> {
        let mut log = Reader::open(dir)?;
        let mut info = Info {
            image: log.header.image,
            disk: segments(dir).iter().map(|(_, len)| len).sum(),
            same_build: log.header.build == build_id(),
            from_start: log.is_from_start(),
            anchors: anchor::list(dir),
            ..Info::default()
        };
        while let Some((batch, len)) = log.frame() {
            info.frames += 1;
            info.bytes += len as u64;
            info.payload += batch.bytes.len() as u64;
            let mut coder = Coder::default();
            let mut src = batch.bytes.as_slice();
            for _ in 0..batch.count {
                let before = src.len();
                let Some(r) = coder.take(&mut src) else {
                    info.damage = Some("a record is damaged".into());
                    return Ok(info);
                };
                info.add(&r, (before - src.len()) as u64);
            }
            info.stamps.add(&coder.stamps.hits);
        }
        info.damage = log.ended_by.map(|e| e.to_string());
        Ok(info)
    }

    fn add(&mut self, r: &Record, bytes: u64) {
        self.records += 1;
        let kind = match r {
            Record::Start(_) => "start".to_string(),
            Record::Clock { v: Some(_), .. } => "clock, behind".to_string(),
            Record::Clock { .. } => "clock, ahead".to_string(),
            Record::Absorb { inputs, .. } => {
                for (_, i) in inputs {
                    self.input_bytes += input_len(i);
                }
                "inputs".to_string()
            }
            Record::Answer { kind, bytes, .. } => {
                self.input_bytes += read_len(*kind, bytes);
                format!("answer, {}", Ask::name(*kind))
            }
            Record::Cut { .. } => "cut".to_string(),
            Record::Part(_) => CUT_PARTS.to_string(),
            Record::Check { .. } => "check".to_string(),
            Record::Mark { .. } => "mark".to_string(),
            Record::Anchor { .. } => "anchor".to_string(),
            Record::End(s) => {
                self.status = Some(*s);
                "end".to_string()
            }
            Record::Stats(b) => {
                self.stats = Stats::decode(b);
                self.cut_pages = self.stats.as_ref().map_or(0, |s| s.cuts.1);
                "stats".to_string()
            }
        };
        let k = self.kinds.entry(kind).or_default();
        k.0 += 1;
        k.1 += bytes;
    }

    fn stamp_kinds(&self) -> [(&'static str, Hits); 3] {
        let s = &self.stamps;
        [
            ("input, absorb point", s.point),
            ("input, stream", s.stream),
            ("input, length", s.length),
        ]
    }

    fn kind_bytes(&self, name: &str) -> u64 {
        self.kinds.get(name).map_or(0, |(_, b)| *b)
    }

    /// Payload bytes beyond the inputs' own: start and counts, cuts, and choices that were not predicted.
    fn beyond(&self) -> [u64; 3] {
        let fixed = self.kind_bytes("start") + self.kind_bytes("stats") + self.kind_bytes("end");
        let cuts = self.kind_bytes("cut") + self.kind_bytes(CUT_PARTS);
        let choices = self.payload.saturating_sub(self.input_bytes + fixed + cuts);
        [fixed, cuts, choices]
    }

    fn end(&self) -> String {
        match (&self.damage, self.status) {
            (_, Some(s)) if s & 0x7f == 0 => {
                format!("whole; the image ended with exit code {}", s >> 8 & 0xff)
            }
            (_, Some(s)) => format!("whole; the image was ended by signal {}", s & 0x7f),
            (Some(e), None) => format!("not whole: {e}; good up to there"),
            (None, None) => {
                "not whole: the image's end is not in it (still running, or its writer died)".into()
            }
        }
    }

    fn text(&self) -> String {
        let [fixed, cuts, choices] = self.beyond();
        let mut out = format!(
            "image   {:016x}, written by {} build of ftvm{}\nframes  {} in {} bytes, {} records; {} bytes on disk\ninputs  {} bytes from outside\nbeyond  {choices} bytes of choices, {cuts} of cuts, {fixed} of start and counts, {} of framing\nend     {}\n",
            self.image,
            if self.same_build { "this" } else { "another" },
            if self.from_start {
                ""
            } else {
                "; only its tail was kept"
            },
            self.frames,
            self.bytes,
            self.records,
            self.disk,
            self.input_bytes,
            self.bytes - self.payload,
            self.end()
        );
        out.push_str("\nrecords                        count        bytes\n");
        for (k, (n, b)) in &self.kinds {
            out.push_str(&format!("  {k:<26} {n:>8} {b:>12}\n"));
        }
        if let Some(s) = &self.stats {
            out.push_str("\npredicted                      asked       logged  as predicted\n");
            let (hit, miss) = s.reads;
            out.push_str(&row("clock", hit + miss + s.vdso_reads, miss));
            out.push_str(&row("  of these at the door", hit + miss, miss));
            for (name, h) in self.stamp_kinds() {
                out.push_str(&row(name, h.asked, h.asked - h.right));
            }
            for (k, asked, logged) in &s.asked {
                out.push_str(&row(Ask::name(*k), *asked, *logged));
            }
            out.push_str(&format!("\ncuts    {}, {} pages\n", s.cuts.0, s.cuts.1));
            let (p50, p99, max) = s.clock_error;
            out.push_str(&format!(
                "clock   off real time by {} us (median), {} us (99 %), {} us (most), of the reads at the door\nwaiting 0 s for predictions: record never waits for one\n",
                p50 / 1000,
                p99 / 1000,
                max / 1000
            ));
        }
        if !self.anchors.is_empty() {
            out.push_str("\nanchors      entries      seconds        bytes\n");
            for a in &self.anchors {
                out.push_str(&format!(
                    "  {:<6} {:>11} {:>12.6} {:>12}\n",
                    a.number,
                    a.entries,
                    a.ns as f64 / 1e9,
                    size_of(&a.path)
                ));
            }
        }
        out.truncate(out.trim_end().len());
        out
    }

    fn json(&self) -> String {
        let [fixed, cuts, choices] = self.beyond();
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .map(|(k, (n, b))| format!("\"{k}\":{{\"count\":{n},\"bytes\":{b}}}"))
            .collect();
        let anchors: Vec<String> = self
            .anchors
            .iter()
            .map(|a| {
                format!(
                    "{{\"number\":{},\"entries\":{},\"ns\":{},\"bytes\":{}}}",
                    a.number,
                    a.entries,
                    a.ns,
                    size_of(&a.path)
                )
            })
            .collect();
        let stats = self.stats.as_ref().map_or("null".to_string(), |s| {
            let stamps = self.stamp_kinds().map(|(name, h)| {
                let name = name.trim_start_matches("input, ");
                format!("\"{name}\":{{\"asked\":{},\"logged\":{}}}", h.asked, h.asked - h.right)
            });
            let asked: Vec<String> = s
                .asked
                .iter()
                .map(|(k, a, l)| format!("\"{}\":{{\"asked\":{a},\"logged\":{l}}}", Ask::name(*k)))
                .collect();
            format!(
                "{{\"clock\":{{\"asked\":{},\"vdso\":{},\"logged\":{},\"error_ns\":{{\"p50\":{},\"p99\":{},\"max\":{}}}}},\"waited_ns\":0,\"stamps\":{{{}}},\"cuts\":{},\"cut_pages\":{},\"queries\":{{{}}}}}",
                s.reads.0 + s.reads.1 + s.vdso_reads,
                s.vdso_reads,
                s.reads.1,
                s.clock_error.0,
                s.clock_error.1,
                s.clock_error.2,
                stamps.join(","),
                s.cuts.0,
                s.cuts.1,
                asked.join(",")
            )
        });
        format!(
            "{{\"image\":\"{:016x}\",\"same_build\":{},\"frames\":{},\"bytes\":{},\"disk_bytes\":{},\"records\":{},\"input_bytes\":{},\"beyond\":{{\"choices\":{choices},\"cuts\":{cuts},\"fixed\":{fixed},\"framing\":{}}},\"whole\":{},\"status\":{},\"damage\":{},\"from_start\":{},\"anchors\":[{}],\"kinds\":{{{}}},\"stats\":{stats}}}",
            self.image,
            self.same_build,
            self.frames,
            self.bytes,
            self.disk,
            self.records,
            self.input_bytes,
            self.bytes - self.payload,
            self.status.is_some(),
            self.status.map_or("null".to_string(), |s| s.to_string()),
            self.damage
                .as_ref()
                .map_or("null".to_string(), |d| format!("\"{d}\"")),
            self.from_start,
            anchors.join(","),
            kinds.join(",")
        )
    }
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn row(name: &str, asked: u64, logged: u64) -> String {
    let hit = if asked == 0 {
        100.0
    } else {
        (asked - logged.min(asked)) as f64 * 100.0 / asked as f64
    };
    format!("  {name:<26} {asked:>8} {logged:>12}  {hit:>8.2} %\n")
}

/// Bytes of a file in an answer.
fn read_len(kind: u16, bytes: &[u8]) -> u64 {
    if kind != Ask::Pread as u16 && kind != Ask::PreadGuest as u16 {
        return 0;
    }
    let read = <Result<Vec<u8>, ftl_core::errno::Errno> as Wire>::take(&mut &*bytes);
    read.and_then(Result::ok).map_or(0, |b| b.len() as u64)
}

fn input_len(i: &Input) -> u64 {
    match i {
        Input::Data(_, b) | Input::Datagram(_, _, b, _) => b.len() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_cut_are_no_choices() {
        let mut info = Info::default();
        let mut put = |r: Record| {
            let mut out = Vec::new();
            Coder::default().put(&r, &mut out);
            info.payload += out.len() as u64;
            info.add(&r, out.len() as u64);
            out.len() as u64
        };
        let clock = put(Record::Clock { e: 7, v: Some(1000) });
        let parts = put(Record::Part(vec![1; 4096])) + put(Record::Part(vec![2; 4096]));
        let cut = put(Record::Cut {
            e: 9,
            bytes: vec![3; 100],
        });
        assert_eq!(info.beyond(), [0, parts + cut, clock]);
    }
}
