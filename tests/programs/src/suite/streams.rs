//! Streams and events.

use anyhow::{Result, ensure};

use super::{Numbers, int, same};
use crate::cuda::{Arguments, Buffer, Event, Module, Shape, Stream};

/// Two streams with asynchronous copies, one of which waits for the other.
pub fn two_streams(module: &Module) -> Result<String> {
    let n = 60_000;
    let kernel = module.function("vector_add")?;
    let mut numbers = Numbers::new(31);
    let (a, b) = (
        numbers.many(n, Numbers::real),
        numbers.many(n, Numbers::real),
    );
    let (first, second) = (Stream::new()?, Stream::new()?);
    let (da, db) = (Buffer::<f32>::new(n)?, Buffer::<f32>::new(n)?);
    let (dc, dd) = (Buffer::<f32>::zeros(n)?, Buffer::<f32>::zeros(n)?);
    let done = Event::new()?;
    let (mut c, mut d) = (vec![0.0f32; n], vec![0.0f32; n]);

    // c = a + b in the first stream, d = c + a in the second once c is there.
    let copy_a = da.write_async(&a, &first)?;
    let copy_b = db.write_async(&b, &first)?;
    let add = |x: &Buffer<f32>, y: &Buffer<f32>, z: &Buffer<f32>, stream: &Stream| {
        let arguments = Arguments::new()
            .with(x.address())
            .with(y.address())
            .with(z.address())
            .with(int(n));
        kernel.launch(Shape::cover(n, 256), Some(stream), &arguments)
    };
    add(&da, &db, &dc, &first)?;
    done.record(&first)?;
    second.wait_for(&done)?;
    add(&dc, &da, &dd, &second)?;
    let read_c = dc.read_async(&mut c, &first)?;
    let read_d = dd.read_async(&mut d, &second)?;
    for copy in [copy_a, copy_b, read_c, read_d] {
        copy.wait()?;
    }
    let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    same("first stream", &c, &sums)?;
    same(
        "second stream",
        &d,
        &sums.iter().zip(&a).map(|(c, a)| c + a).collect::<Vec<_>>(),
    )?;
    Ok(format!("n={n}, 2 streams"))
}

/// Times between events, around work and around nothing.
pub fn events(module: &Module) -> Result<String> {
    let n = 100_000;
    let kernel = module.function("saxpy")?;
    let stream = Stream::new()?;
    let (x, y) = (
        Buffer::from(&vec![1.0f32; n])?,
        Buffer::from(&vec![0.0f32; n])?,
    );
    let events = [Event::new()?, Event::new()?, Event::new()?];
    let arguments = Arguments::new()
        .with(2.0f32)
        .with(x.address())
        .with(y.address())
        .with(int(n));
    events[0].record(&stream)?;
    for _ in 0..10 {
        kernel.launch(Shape::cover(n, 256), Some(&stream), &arguments)?;
    }
    events[1].record(&stream)?;
    events[2].record(&stream)?;
    events[2].synchronize()?;
    let (work, nothing) = (events[1].since(&events[0])?, events[2].since(&events[1])?);
    ensure!(work > 0.0 && work.is_finite(), "10 launches took {work} ms");
    ensure!(
        nothing >= 0.0 && nothing.is_finite(),
        "nothing took {nothing} ms"
    );
    same("saxpy, ten times", &y.read()?, &vec![20.0; n])?;
    Ok(format!("n={n}, 10 launches in {work:.2} ms"))
}
