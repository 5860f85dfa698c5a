//! Test runs of kernel programs in turns, so that what slows the machine down for a while slows all of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use aya::programs::{TestRun, TestRunOptions, TestRunResult};
use leuko::source::kernel::KernelSource;

/// What was measured, turn by turn.
#[derive(Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes in a measurement.
    pub fn push(&mut self, value: f64) {
        let at = self.0.partition_point(|&other| other < value);
        self.0.insert(at, value);
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(1, 2)
    }

    /// The mean of the middle half: finer than the whole nanoseconds of a test run, and blind to what disturbs one.
    pub fn midmean(&self) -> f64 {
        let middle = self.0.get(self.0.len() / 4..self.0.len() - self.0.len() / 4).unwrap_or_default();
        middle.iter().sum::<f64>() / middle.len() as f64
    }

    /// The tenth and the ninetieth percentile.
    pub fn spread(&self) -> [f64; 2] {
        [self.quantile(1, 10), self.quantile(9, 10)]
    }

    /// The same without what every measurement has in it besides.
    pub fn less(&self, overhead: f64) -> Self {
        Self(self.0.iter().map(|value| value - overhead).collect())
    }

    fn quantile(&self, of: usize, parts: usize) -> f64 {
        self.0.get(self.0.len() * of / parts).copied().unwrap_or(f64::NAN)
    }
}

/// A program, by the kind of its hook.
#[derive(Clone, Copy)]
pub enum Program {
    /// At the XDP hook.
    Xdp(&'static str),
    /// At a TC hook.
    Classifier(&'static str),
}

/// What a packet costs in a program, to be measured many times.
pub struct Case {
    pub what: &'static str,
    /// Which of the sources has the program.
    pub source: usize,
    pub program: Program,
    /// The frame of a turn.
    pub frame: fn(turn: usize) -> Vec<u8>,
    /// Packets in a turn.
    pub repeat: u32,
    /// Nanoseconds of a packet.
    pub sample: Sample,
}

impl Case {
    pub fn new(what: &'static str, source: usize, program: Program, frame: fn(usize) -> Vec<u8>, repeat: u32) -> Self {
        Self { what, source, program, frame, repeat, sample: Sample::default() }
    }

    /// Takes one turn.
    pub fn run(&mut self, sources: &mut [KernelSource], turn: usize) -> Result<()> {
        let frame = (self.frame)(turn);
        self.sample.push(nanoseconds(&mut sources[self.source], self.program, &frame, self.repeat)?);
        Ok(())
    }
}

/// Lets every case have its turn, so many times.
pub fn take_turns(sources: &mut [KernelSource], cases: &mut [Case], turns: usize) -> Result<()> {
    for turn in 0..turns {
        for case in &mut *cases {
            case.run(sources, turn)?;
        }
    }
    Ok(())
}

/// Nanoseconds of a packet, over so many.
pub fn nanoseconds(source: &mut KernelSource, program: Program, frame: &[u8], repeat: u32) -> Result<f64> {
    match program {
        Program::Xdp(name) => test_run(source.xdp(name)?, frame, repeat),
        Program::Classifier(name) => test_run(source.classifier(name)?, frame, repeat),
    }
}

fn test_run<P>(program: &P, frame: &[u8], repeat: u32) -> Result<f64>
where
    for<'a> P: TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = repeat;
    let result = program.test_run(options).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(result.duration.as_nanos() as f64)
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, and only here")]
pub fn time(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}
