//! The CustomResourceDefinitions, as they are applied to a cluster.
//!
//! They come from `kube`'s derive and then lose two things. `nullable`: an absent field and an explicit `null` would be two
//! ways to say "unmanaged", and rules that ask `has()` see them differently; without it the API server refuses `null`. And
//! numeric formats that OpenAPI does not know, which the API server warns about.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{Cluster, ConsumerGroup, Topic};

/// Every CustomResourceDefinition of Weir's, in the order in which they are applied.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Cluster::crd(), Topic::crd(), ConsumerGroup::crd()]
        .into_iter()
        .map(without_nullable)
        .collect()
}

/// The OpenAPI schema of a kind, as the API server sees it; `None` for a kind that is not ours.
#[must_use]
pub fn openapi(kind: &str) -> Option<Value> {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind)?;
    let schema = crd
        .spec
        .versions
        .into_iter()
        .next()?
        .schema?
        .open_api_v3_schema?;
    serde_json::to_value(schema).ok()
}

fn without_nullable(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        strip(schema);
    }
    crd
}

fn strip(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if !matches!(
        schema.format.as_deref(),
        None | Some("int32" | "int64" | "double" | "float" | "date-time" | "byte")
    ) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        strip(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => strip(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(strip),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        strip(values);
    }
}
