//! Whether two kinds of input take different times: Welch's t-test over many measurements, as dudect does it (Reparaz, Balasch,
//! Verbauwhede, "Dude, is my code constant time?", 2017).

/// Beyond it two kinds differ: by chance that happens once in some 150,000 comparisons.
pub(crate) const LIMIT: f64 = 4.5;

/// Shares of the measurements that are looked at, the fastest ones first. What interrupts a measurement makes it slow, and
/// would hide a difference among the quick ones; and a difference may be among the slow ones alone.
const SHARES: [f64; 5] = [0.5, 0.75, 0.9, 0.99, 1.0];

/// Count, mean and sum of squares about the mean of numbers that come one by one.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count;
        self.squares += from_mean * (value - self.mean);
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// One measurement: of which kind, and how long it took.
pub(crate) type Timed = (bool, u32);

/// Welch's t for the measurements up to `longest`; none where it says nothing, because a kind is missing or all are equal.
pub(crate) fn welch(timed: &[Timed], longest: u32) -> Option<f64> {
    let mut kinds = [Moments::default(); 2];
    for (kind, time) in timed.iter().filter(|(_, time)| *time <= longest) {
        kinds[usize::from(*kind)].add(f64::from(*time));
    }
    let [one, other] = kinds;
    let error = (one.error() + other.error()).sqrt();
    let enough = one.count > 1.0 && other.count > 1.0;
    (enough && error > 0.0).then(|| (one.mean - other.mean) / error)
}

/// The t that is farthest from zero, over every share.
pub(crate) fn farthest(timed: &[Timed]) -> f64 {
    let mut times: Vec<u32> = timed.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    let longest = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let all = SHARES.iter().filter_map(|share| welch(timed, longest(*share)));
    all.fold(0.0, |most, t| if t.abs() > f64::abs(most) { t } else { most })
}
