//! Distance to the nearest of several kinds of normal traffic, each with its own shape.
//!
//! The scaled training rows are parted by k-means; each part keeps its centre and its covariance, drawn towards the
//! pooled covariance of all parts where it has few rows. With `C_k` of part `k`:
//!
//! ```text
//! score(x) = sqrt(min over k of (x - m_k)' C_k^-1 (x - m_k) / columns)
//! ```
//!
//! It is one step of a Gaussian mixture with hard membership and without the volume term: a wide kind of traffic is not
//! punished for being wide. k-means is that of linfa-clustering, started by k-means++ (Arthur, Vassilvitskii 2007).

mod params;

use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::isolation_forest::FitError;
use crate::linalg::{Cholesky, covariance, means};
use crate::model::{InvalidModel, checked_serde, sample_rows};
use crate::one_class::OneClass;
use crate::residual::{finish, fit_dense};
use crate::scale::{CLIP, Scaler};

pub use params::{ClustersParams, ClustersParamsError, MAX_CLUSTERS, MAX_POOLING, ValidClustersParams};

/// Rows the clusters are fitted to at most; more are sampled.
const MAX_ROWS: u32 = 20_000;
const ITERATIONS: u64 = 40;
const ROWS_PER_CLUSTER: usize = 40;

/// Fitted clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Clusters {
    scaler: Scaler,
    clusters: Vec<Cluster>,
}

checked_serde!(Clusters);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cluster {
    centre: Vec<f64>,
    share: f64,
    factor: Cholesky,
}

/// One kind of normal traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Number of the cluster.
    pub cluster: usize,
    /// Its centre, in the units of the columns.
    pub centre: Vec<f32>,
    /// Fraction of the training rows that belong to it.
    pub share: f64,
}

impl ValidClustersParams {
    /// Fits the clusters to `rows`.
    ///
    /// # Errors
    /// Fewer than two rows, no or more than [`MAX_DENSE_COLUMNS`](crate::MAX_DENSE_COLUMNS) columns, or a value
    /// that is not finite.
    pub fn fit(&self, rows: ArrayView2<'_, f32>) -> Result<Clusters, FitError> {
        let scaler = fit_dense(rows)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.seed);
        let scaled = sample_rows(&scaler, rows, MAX_ROWS, &mut rng);
        let members = self.part(&scaled, &mut rng);
        let centres: Vec<Vec<f64>> =
            members.iter().map(|members| means(scaled.select(Axis(0), members).view())).collect();
        let spreads: Vec<Array2<f64>> = members
            .iter()
            .zip(&centres)
            .map(|(members, centre)| covariance(scaled.select(Axis(0), members).view(), centre))
            .collect();
        let total = scaled.nrows() as f64;
        let mut pooled = Array2::zeros((scaled.ncols(), scaled.ncols()));
        for (members, spread) in members.iter().zip(&spreads) {
            pooled.scaled_add(members.len() as f64 / total, spread);
        }
        let weight = scaled.ncols() as f64 * self.0.pooling;
        let cluster = |((members, centre), spread): ((&Vec<usize>, Vec<f64>), Array2<f64>)| {
            let count = members.len() as f64;
            let mut matrix = (spread * count + &pooled * weight) / (count + weight);
            finish(&mut matrix, &scaler, self.0.floor);
            let factor = Cholesky::new(&matrix).expect("the floor makes a covariance positive definite");
            Cluster { centre, share: count / total, factor }
        };
        let clusters = members.iter().zip(centres).zip(spreads).map(cluster).collect();
        Ok(Clusters { scaler, clusters })
    }

    /// Row numbers of each cluster that has any.
    fn part(&self, scaled: &Array2<f64>, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let enough = (scaled.nrows() / ROWS_PER_CLUSTER).clamp(1, MAX_CLUSTERS);
        let start = spread_out(scaled, self.0.clusters.min(enough), rng);
        let count = start.nrows();
        let fitted = KMeans::params_with_rng(count, rng.clone())
            .init_method(KMeansInit::Precomputed(start.clone()))
            .n_runs(1)
            .max_n_iterations(ITERATIONS)
            .tolerance(1e-4)
            .fit(&DatasetBase::from(scaled.view()));
        let centres = fitted.map_or(start, |model| model.centroids().clone());
        let mut members = vec![Vec::new(); count];
        for (at, row) in scaled.rows().into_iter().enumerate() {
            let distances = centres.rows().into_iter().map(|centre| square_distance(row.iter(), centre.iter()));
            members[nearest(distances).0].push(at);
        }
        members.retain(|rows| !rows.is_empty());
        members
    }
}

/// k-means++ centres: each next one is drawn with a probability proportional to the squared distance from those there
/// are. Fewer than asked for if the rows have fewer different values.
fn spread_out(scaled: &Array2<f64>, wanted: usize, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let count = u32::try_from(scaled.nrows()).expect("at most MAX_ROWS");
    let mut chosen = vec![rng.gen_range(0..count) as usize];
    let mut distances = vec![f64::INFINITY; scaled.nrows()];
    while chosen.len() < wanted {
        let last = scaled.row(chosen[chosen.len() - 1]);
        for (distance, row) in distances.iter_mut().zip(scaled.rows()) {
            *distance = distance.min(square_distance(row.iter(), last.iter()));
        }
        let total: f64 = distances.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut left = rng.r#gen::<f64>() * total;
        let next = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0 && *distance > 0.0
        });
        let farthest = || nearest(distances.iter().map(|distance| -distance)).0;
        chosen.push(next.unwrap_or_else(farthest));
    }
    scaled.select(Axis(0), &chosen)
}

fn square_distance<'a>(a: impl Iterator<Item = &'a f64>, b: impl Iterator<Item = &'a f64>) -> f64 {
    a.zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}

/// Position and value of the smallest distance.
fn nearest(distances: impl Iterator<Item = f64>) -> (usize, f64) {
    distances
        .enumerate()
        .fold((0, f64::INFINITY), |best, (at, distance)| if distance < best.1 { (at, distance) } else { best })
}

impl Clusters {
    /// The kind of normal traffic that `row` is nearest to.
    ///
    /// # Panics
    /// If `row` does not have one value for each column.
    #[must_use]
    pub fn nearest_profile(&self, row: &[f32]) -> Profile {
        self.profile(self.nearest(&self.scaler.scale(row)).0)
    }

    /// All kinds of normal traffic.
    pub fn profiles(&self) -> impl ExactSizeIterator<Item = Profile> + '_ {
        (0..self.clusters.len()).map(|cluster| self.profile(cluster))
    }

    fn profile(&self, cluster: usize) -> Profile {
        let Cluster { centre, share, .. } = &self.clusters[cluster];
        Profile { cluster, centre: self.scaler.unscale(centre), share: *share }
    }

    fn nearest(&self, scaled: &[f64]) -> (usize, f64) {
        let mut scratch = Vec::with_capacity(scaled.len());
        let mut best = (0, f64::INFINITY);
        for (at, cluster) in self.clusters.iter().enumerate() {
            let deviation = scaled.iter().zip(&cluster.centre).map(|(value, centre)| value - centre);
            if let Some(square) = cluster.factor.square_below(deviation, best.1, &mut scratch) {
                best = (at, square);
            }
        }
        best
    }

    fn validate(&self) -> Result<(), InvalidModel> {
        let width = self.scaler.columns().len();
        let fits = |cluster: &Cluster| {
            cluster.centre.len() == width
                && cluster.factor.size() == width
                && cluster.centre.iter().all(|value| value.abs() <= CLIP)
                && (0.0..=1.0).contains(&cluster.share)
        };
        if (1..=MAX_CLUSTERS).contains(&self.clusters.len()) && self.clusters.iter().all(fits) {
            Ok(())
        } else {
            Err(InvalidModel("the clusters do not fit together"))
        }
    }
}

impl Cluster {
    fn deviation(&self, scaled: &[f64]) -> Vec<f64> {
        scaled.iter().zip(&self.centre).map(|(value, centre)| value - centre).collect()
    }
}

impl OneClass for Clusters {
    fn features(&self) -> usize {
        self.scaler.columns().len()
    }

    fn score(&self, row: &[f32]) -> f64 {
        (self.nearest(&self.scaler.scale(row)).1 / self.features() as f64).sqrt()
    }

    /// As those of [`Residual`](crate::residual::Residual), towards the nearest cluster: their sum is the squared score.
    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        let scaled = self.scaler.scale(row);
        let cluster = &self.clusters[self.nearest(&scaled).0];
        let deviation = cluster.deviation(&scaled);
        let solved = cluster.factor.solve(&deviation);
        let width = self.features() as f64;
        deviation.iter().zip(solved).map(|(z, solved)| z * solved / width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_kinds() -> Array2<f32> {
        Array2::from_shape_fn((600, 2), |(at, column)| {
            let noise = ((at * (17 + column * 14)) % 101) as f32 / 101.0;
            if at % 3 == 0 { 100.0 + noise } else { noise }
        })
    }

    #[test]
    fn the_gap_between_two_kinds_is_not_normal() {
        let model = ClustersParams::new().clusters(2).check().unwrap().fit(two_kinds().view()).unwrap();
        let inside = model.score(&[0.5, 0.5]).max(model.score(&[100.5, 100.5]));
        assert!(model.score(&[50.0, 50.0]) > 2.0 * inside);
        assert!(model.score(&[0.5, 100.5]) > 2.0 * inside);
    }

    #[test]
    fn the_nearest_profile_is_in_the_units_of_the_columns() {
        let model = ClustersParams::new().clusters(2).check().unwrap().fit(two_kinds().view()).unwrap();
        let profile = model.nearest_profile(&[90.0, 110.0]);
        assert!(profile.centre.iter().all(|value| (value - 100.5).abs() < 0.2), "{profile:?}");
        assert!((profile.share - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(model.profiles().len(), 2);
    }

    #[test]
    fn rows_that_are_all_alike_make_one_cluster() {
        let model = ClustersParams::new().check().unwrap().fit(Array2::from_elem((50, 3), 7.0).view()).unwrap();
        assert_eq!(model.profiles().len(), 1);
        assert_eq!(model.score(&[7.0; 3]), 0.0);
        assert!(model.score(&[7.0, 8.0, 7.0]) > 1.0);
    }
}
