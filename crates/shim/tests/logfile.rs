//! Logs written and read back: lines, rotation, tail, since, until, following.

use std::path::Path;

use hull_shim::logfile::{Format, ReadOptions, Reader, Rotation, Stream, Writer, generation};

const NEVER: Rotation = Rotation {
    size_bytes_max: None,
    files_max: 1,
    compress: false,
};

fn lines(reader: &mut Reader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(entry) = reader.read().unwrap() {
        all.push(String::from_utf8_lossy(&entry.line).into_owned());
    }
    all
}

fn read(path: &Path, format: Format, options: ReadOptions) -> Vec<String> {
    lines(&mut Reader::open(path, format, options).unwrap())
}

fn both(test: impl Fn(&Path, Format)) {
    for format in [Format::JsonFile, Format::Local] {
        let folder = tempfile::tempdir().unwrap();
        test(&folder.path().join("log"), format);
    }
}

#[test]
fn lines_are_cut_where_docker_cuts_them() {
    both(|path, format| {
        let mut writer = Writer::open(path, format, NEVER, None).unwrap();
        let long = "x".repeat(20_000);
        writer.write(Stream::Stdout, b"one\ntw").unwrap();
        writer.write(Stream::Stderr, b"err\n").unwrap();
        writer.write(Stream::Stdout, b"o\n").unwrap();
        writer
            .write(Stream::Stdout, format!("{long}\nend").as_bytes())
            .unwrap();
        writer.end(Stream::Stdout).unwrap();
        let pieces = [
            "one\n".to_owned(),
            "err\n".to_owned(),
            "two\n".to_owned(),
            "x".repeat(16 << 10),
            format!("{}\n", "x".repeat(20_000 - (16 << 10))),
            "end".to_owned(),
        ];
        assert_eq!(read(path, format, ReadOptions::default()), pieces);
        let last = ReadOptions {
            tail: Some(2),
            ..Default::default()
        };
        assert_eq!(read(path, format, last), pieces[3..]);
    });
}

#[test]
fn generations_are_kept_and_read_in_order() {
    for (format, compress) in [
        (Format::JsonFile, false),
        (Format::Local, false),
        (Format::JsonFile, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation {
            size_bytes_max: Some(2_000),
            files_max: 3,
            compress,
        };
        let mut writer = Writer::open(&path, format, rotation, None).unwrap();
        let mut follower = Reader::open(&path, format, ReadOptions::default()).unwrap();
        let mut followed = Vec::new();
        let all: Vec<String> = (0..200).map(|n| format!("line number {n}\n")).collect();
        for line in &all {
            writer.write(Stream::Stdout, line.as_bytes()).unwrap();
            followed.extend(lines(&mut follower));
        }
        assert_eq!(
            followed, all,
            "a follower loses nothing when the file is rotated"
        );
        let kept = read(&path, format, ReadOptions::default());
        assert!(
            kept.len() > 20 && kept.len() < 200,
            "{} lines kept",
            kept.len()
        );
        assert_eq!(kept, all[200 - kept.len()..]);
        for wanted in [0, 1, 5, 30, kept.len(), 1000] {
            let tail = ReadOptions {
                tail: Some(wanted),
                ..Default::default()
            };
            let expected = &kept[kept.len() - wanted.min(kept.len())..];
            assert_eq!(read(&path, format, tail), expected, "tail {wanted}");
        }
        assert!(!generation(&path, 3).exists());
        let full = std::fs::metadata(&path).unwrap().len();
        assert!(full <= 2_200, "{full} bytes in a file of at most 2000");
    }
}

#[test]
fn since_and_until_are_found_in_a_large_log() {
    both(|path, format| {
        let start = jiff::Timestamp::now();
        let mut writer = Writer::open(path, format, NEVER, None).unwrap();
        let block: String = (0..20_000).map(|n| format!("early {n}\n")).collect();
        writer.write(Stream::Stdout, block.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let middle = jiff::Timestamp::now();
        writer.write(Stream::Stdout, b"in the middle\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let late = jiff::Timestamp::now();
        writer
            .write(Stream::Stdout, block.replace("early", "late").as_bytes())
            .unwrap();
        let only = |since, until, tail| read(path, format, ReadOptions { tail, since, until });
        assert_eq!(only(Some(middle), Some(late), None), ["in the middle\n"]);
        assert_eq!(only(Some(middle), None, None).len(), 20_001);
        assert_eq!(only(Some(start), None, None).len(), 40_001);
        assert_eq!(only(None, Some(late), Some(1)), ["in the middle\n"]);
        assert_eq!(only(Some(late), None, Some(30_000)).len(), 20_000);
        assert!(only(Some(jiff::Timestamp::now()), None, None).is_empty());
    });
}

#[test]
fn large_compressed_generations_are_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let rotation = Rotation {
        size_bytes_max: Some(900_000),
        files_max: 4,
        compress: true,
    };
    let mut writer = Writer::open(&path, Format::Local, rotation, None).unwrap();
    let mut middle = jiff::Timestamp::now();
    let mut all = Vec::new();
    for block in 0..20 {
        if block == 10 {
            middle = jiff::Timestamp::now();
        }
        let block: Vec<String> = (0..2500).map(|n| format!("{block} line {n}\n")).collect();
        writer
            .write(Stream::Stdout, block.concat().as_bytes())
            .unwrap();
        all.extend(block);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let only = |since, tail| {
        let options = ReadOptions {
            tail,
            since,
            until: None,
        };
        read(&path, Format::Local, options)
    };
    assert_eq!(only(None, None), all);
    assert_eq!(only(Some(middle), None), all[25_000..]);
    for wanted in [1, 24_999, 40_000] {
        assert_eq!(only(None, Some(wanted)), all[all.len() - wanted..]);
    }
}

#[test]
fn damage_is_skipped_and_an_absent_log_is_empty() {
    both(|path, format| {
        assert!(read(path, format, ReadOptions::default()).is_empty());
        let mut writer = Writer::open(path, format, NEVER, None).unwrap();
        writer.write(Stream::Stdout, b"before\n").unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        // Half an entry, as a full disk leaves it.
        bytes.extend_from_slice(&bytes.clone()[..bytes.len() / 2]);
        if format == Format::JsonFile {
            bytes.push(b'\n');
        }
        std::fs::write(path, &bytes).unwrap();
        writer.write(Stream::Stdout, b"after\n").unwrap();
        assert_eq!(
            read(path, format, ReadOptions::default()),
            ["before\n", "after\n"]
        );
    });
}
