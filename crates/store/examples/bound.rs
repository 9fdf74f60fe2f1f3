//! What no pull can beat, measured with the store's own libraries: `gunzip FILE..` decompresses on two threads to nowhere,
//! `create DIR COUNT BYTES` makes that many files of that length, one hundred to a directory, on one thread.
//! Prints seconds.

use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let started = Instant::now();
    match args.as_slice() {
        [what, files @ ..] if what == "gunzip" => gunzip(files)?,
        [what, dir, count, bytes] if what == "create" => {
            create(Path::new(dir), count.parse()?, bytes.parse()?)?;
        }
        _ => return Err("usage: gunzip FILE.. | create DIR COUNT BYTES".into()),
    }
    println!("{:.4}", started.elapsed().as_secs_f64());
    Ok(())
}

fn gunzip(files: &[String]) -> Outcome<()> {
    let queue = Mutex::new(files.iter());
    let work = || -> Outcome<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let next = queue.lock().map_err(|_| "a thread panicked")?.next();
            let Some(file) = next else { return Ok(()) };
            let file = std::fs::File::open(file)?;
            let (_, mut plain) = hull_store::layer::decompress_detect(file)?;
            while plain.read(&mut buffer)? > 0 {}
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work()?;
        other.join().map_err(|_| "a thread panicked")?
    })
}

fn create(dir: &Path, count: usize, bytes: usize) -> Outcome<()> {
    let content = vec![b'x'; bytes];
    for number in 0..count {
        let folder = dir.join((number / 100).to_string());
        if number % 100 == 0 {
            std::fs::create_dir_all(&folder)?;
        }
        std::fs::write(folder.join(number.to_string()), &content)?;
    }
    Ok(())
}
