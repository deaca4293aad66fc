//! smmu-model
