//! What nodes and pods use, in the columns of metrics-server.

use serde_json::Value;

use super::{Column, Row, columns};
use crate::meta;
use crate::quantity::Quantity;

fn shaped() -> Vec<Column> {
    let mut columns = columns(
        "Name|string|0|Name of the resource
cpu|string|0|
memory|string|0|
Window|string|0|",
    );
    for (column, format) in columns.iter_mut().zip(["name", "quantity", "quantity", "duration"]) {
        format.clone_into(&mut column.format);
    }
    columns
}

fn cells(object: &Value, usages: &[&Value]) -> Vec<Value> {
    let sum = |resource: &str| -> Value {
        let mut sum: Option<Quantity> = None;
        for usage in usages {
            if let Ok(amount) = Quantity::from_value(&usage[resource]) {
                sum = Some(sum.map_or(amount, |sum| sum + amount));
            }
        }
        sum.unwrap_or_else(|| Quantity::from_units(0)).to_string().into()
    };
    vec![
        meta::name(object).into(),
        sum("cpu"),
        sum("memory"),
        object["window"].clone(),
    ]
}

/// Returns the columns and the row of NodeMetrics.
pub(crate) fn node_metrics() -> (Vec<Column>, Row) {
    let row = |object: &Value, _| cells(object, &[&object["usage"]]);
    (shaped(), Row::Builtin(row))
}

/// Returns the columns and the row of PodMetrics: the sums of the containers.
pub(crate) fn pod_metrics() -> (Vec<Column>, Row) {
    let row = |object: &Value, _| {
        let containers = object["containers"].as_array();
        let usages: Vec<&Value> = containers
            .into_iter()
            .flatten()
            .map(|container| &container["usage"])
            .collect();
        cells(object, &usages)
    };
    (shaped(), Row::Builtin(row))
}
