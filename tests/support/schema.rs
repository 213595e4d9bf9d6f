//! The part of JSON Schema that `docs/report.schema.json` uses. A key of the report that the
//! schema does not know is a fault too: it is to be documented.
#![allow(dead_code)]

use serde_json::Value;
use std::path::Path;

/// Fails unless a report of a run is what its schema says.
pub fn check_report(report: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut faults = Vec::new();
    check(report, &schema, &schema, "report", &mut faults);
    assert!(faults.is_empty(), "{faults:#?}\n{report:#}");
}

fn check(value: &Value, schema: &Value, whole: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let part = whole.pointer(name.strip_prefix('#').unwrap()).unwrap();
        return check(value, part, whole, at, faults);
    }
    for word in schema.as_object().unwrap().keys() {
        let known = [
            "$schema",
            "$id",
            "$defs",
            "title",
            "description",
            "format",
            "type",
            "enum",
            "minimum",
            "required",
            "properties",
            "items",
        ];
        assert!(known.contains(&word.as_str()), "{word} is not looked at by this test");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    };
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        one => vec![one.clone()],
    };
    if !kinds.iter().any(|kind| is(kind.as_str().unwrap())) {
        faults.push(format!("{at}: {value} is not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        faults.push(format!("{at}: {value} is less than {least}"));
    }
    if schema["format"] == "date-time"
        && chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap_or_default()).is_err()
    {
        faults.push(format!("{at}: {value} is no time"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], whole, &format!("{at}[{index}]"), faults);
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            faults.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        match &schema["properties"][name] {
            Value::Null => faults.push(format!("{at}: {name} is not in the schema")),
            part => check(value, part, whole, &format!("{at}.{name}"), faults),
        }
    }
}
