//! Any one of the one-class models, by a stable name.

use ndarray::{Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::autoencoder::{Autoencoder, AutoencoderParams};
use crate::clusters::{Clusters, ClustersParams};
use crate::extended_forest::{ExtendedForest, ExtendedForestParams};
use crate::half_space::{HalfSpaceParams, HalfSpaceTrees};
use crate::isolation_forest::{FitError, IsolationForest, IsolationForestParams, draw};
use crate::one_class::OneClass;
use crate::one_class_svm::{OneClassSvm, OneClassSvmParams};
use crate::residual::{Residual, ResidualParams};
use crate::scale::Scaler;

/// A kind of model. The names are stable: files and settings use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// [`IsolationForest`].
    IsolationForest,
    /// [`ExtendedForest`].
    ExtendedForest,
    /// [`Residual`].
    Residual,
    /// [`Clusters`].
    Clusters,
    /// [`OneClassSvm`].
    OneClassSvm,
    /// [`Autoencoder`].
    Autoencoder,
    /// [`HalfSpaceTrees`].
    HalfSpace,
}

/// A fitted model of any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Random splits.
    IsolationForest(IsolationForest),
    /// Random slopes.
    ExtendedForest(ExtendedForest),
    /// Mahalanobis distance.
    Residual(Residual),
    /// Distance to the nearest cluster.
    Clusters(Clusters),
    /// Support vectors.
    OneClassSvm(OneClassSvm),
    /// Reconstruction error.
    Autoencoder(Autoencoder),
    /// Streaming counts.
    HalfSpace(HalfSpaceTrees),
}

/// Parts that no model can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidModel(pub(crate) &'static str);

/// A name that no model has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no model is called {0:?}: choose one of {names}", names = ModelKind::ALL.map(ModelKind::name).join(", "))]
pub struct UnknownModel(String);

impl ModelKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::IsolationForest,
        Self::ExtendedForest,
        Self::Residual,
        Self::Clusters,
        Self::OneClassSvm,
        Self::Autoencoder,
        Self::HalfSpace,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IsolationForest => "isolation_forest",
            Self::ExtendedForest => "extended_forest",
            Self::Residual => "residual",
            Self::Clusters => "clusters",
            Self::OneClassSvm => "one_class_svm",
            Self::Autoencoder => "autoencoder",
            Self::HalfSpace => "half_space",
        }
    }

    /// Fits a model of this kind with its usual parameters to `rows` of normal traffic.
    ///
    /// # Errors
    /// Fewer than two rows, no or more columns than the kind supports, or a value that is not finite.
    pub fn fit(self, rows: ArrayView2<'_, f32>, seed: u64) -> Result<Model, FitError> {
        const USUAL: &str = "the usual values are in range";
        Ok(match self {
            Self::IsolationForest => {
                Model::IsolationForest(IsolationForestParams::new().seed(seed).check().expect(USUAL).fit(rows)?)
            }
            Self::ExtendedForest => {
                Model::ExtendedForest(ExtendedForestParams::new().seed(seed).check().expect(USUAL).fit(rows)?)
            }
            Self::Residual => Model::Residual(ResidualParams::new().check().expect(USUAL).fit(rows)?),
            Self::Clusters => Model::Clusters(ClustersParams::new().seed(seed).check().expect(USUAL).fit(rows)?),
            Self::OneClassSvm => {
                Model::OneClassSvm(OneClassSvmParams::new().seed(seed).check().expect(USUAL).fit(rows)?)
            }
            Self::Autoencoder => {
                Model::Autoencoder(AutoencoderParams::new().seed(seed).check().expect(USUAL).fit(rows)?)
            }
            Self::HalfSpace => Model::HalfSpace(HalfSpaceParams::new().seed(seed).check().expect(USUAL).fit(rows)?),
        })
    }
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for ModelKind {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownModel(name.chars().take(64).collect()))
    }
}

impl Model {
    /// Which kind this is.
    #[must_use]
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::IsolationForest(_) => ModelKind::IsolationForest,
            Self::ExtendedForest(_) => ModelKind::ExtendedForest,
            Self::Residual(_) => ModelKind::Residual,
            Self::Clusters(_) => ModelKind::Clusters,
            Self::OneClassSvm(_) => ModelKind::OneClassSvm,
            Self::Autoencoder(_) => ModelKind::Autoencoder,
            Self::HalfSpace(_) => ModelKind::HalfSpace,
        }
    }

    fn inner(&self) -> &dyn OneClass {
        match self {
            Self::IsolationForest(model) => model,
            Self::ExtendedForest(model) => model,
            Self::Residual(model) => model,
            Self::Clusters(model) => model,
            Self::OneClassSvm(model) => model,
            Self::Autoencoder(model) => model,
            Self::HalfSpace(model) => model,
        }
    }
}

impl OneClass for Model {
    fn features(&self) -> usize {
        self.inner().features()
    }

    fn score(&self, row: &[f32]) -> f64 {
        self.inner().score(row)
    }

    fn score_batch(&self, rows: ArrayView2<'_, f32>) -> ndarray::Array1<f64> {
        self.inner().score_batch(rows)
    }

    fn contributions(&self, row: &[f32]) -> Vec<f64> {
        self.inner().contributions(row)
    }
}

/// At most `limit` rows, drawn without replacement, scaled.
pub(crate) fn sample_rows(scaler: &Scaler, rows: ArrayView2<'_, f32>, limit: u32, rng: &mut ChaCha8Rng) -> Array2<f64> {
    let count = u32::try_from(rows.nrows()).expect("the number of rows was checked");
    let mut order: Vec<u32> = (0..count).collect();
    let chosen: Vec<usize> = draw(&mut order, limit.min(count), rng).iter().map(|row| *row as usize).collect();
    scaler.scale_rows(rows.select(Axis(0), &chosen).view())
}

/// `Serialize` and `Deserialize` for a type that derives both with `remote = "Self"`: what is read is validated.
macro_rules! checked_serde {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parts = <$type>::deserialize(deserializer)?;
                parts.validate().map_err(serde::de::Error::custom)?;
                Ok(parts)
            }
        }
    };
}

pub(crate) use checked_serde;

#[cfg(test)]
mod tests;
