//! A forest as plain data: two numbers a node, links derived.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{IsolationForest, MAX_FEATURES, MAX_SAMPLE_SIZE, Node, RawNode, TreeError};

const LEAF: u16 = u16::MAX;

#[derive(Serialize, Deserialize)]
struct Plain {
    features: u16,
    sample_size: u32,
    /// Column of a split, or 65535 for a leaf; trees in pre-order.
    columns: Vec<u16>,
    /// Bits of the threshold of a split, or rows in a leaf.
    values: Vec<u32>,
}

impl Serialize for IsolationForest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = |node| match node {
            Node::Split { feature, threshold, .. } => {
                (u16::try_from(feature).expect("at most MAX_FEATURES"), threshold.to_bits())
            }
            Node::Leaf { samples, .. } => (LEAF, samples),
        };
        let (columns, values) = (0..self.trees()).flat_map(|tree| self.nodes(tree)).map(plain).unzip();
        Plain { features: self.features, sample_size: self.sample_size, columns, values }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IsolationForest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Plain { features, sample_size, columns, values } = Plain::deserialize(deserializer)?;
        let sizes = (1..=MAX_FEATURES).contains(&features) && (2..=MAX_SAMPLE_SIZE).contains(&sample_size);
        if !sizes || columns.len() != values.len() {
            return Err(D::Error::custom("the sizes of the forest are out of range"));
        }
        let nodes = columns.iter().zip(&values).map(|(column, value)| {
            Ok::<_, TreeError>(match *column {
                LEAF => RawNode::Leaf { samples: *value },
                feature => RawNode::Split { feature, threshold: f32::from_bits(*value) },
            })
        });
        Self::from_nodes(nodes, features, sample_size).map_err(D::Error::custom)
    }
}
