// SPDX-License-Identifier: Apache-2.0
//
// node validate.cjs cyclonedx FILE        CycloneDX's own validator
// node validate.cjs SCHEMA FILE           a JSON schema, draft 7
const fs = require("fs");
const [how, file] = process.argv.slice(2);
const text = fs.readFileSync(file, "utf8");

async function validate() {
  if (how === "cyclonedx") {
    const cdx = require("@cyclonedx/cyclonedx-library");
    return new cdx.Validation.JsonStrictValidator(cdx.Spec.Version.v1dot6).validate(text);
  }
  const ajv = new (require("ajv"))({ strict: false, allErrors: false });
  require("ajv-formats")(ajv);
  const ok = ajv.compile(JSON.parse(fs.readFileSync(how, "utf8")));
  return ok(JSON.parse(text)) ? null : ok.errors;
}

validate().then(
  (errors) => {
    if (errors) {
      console.error(JSON.stringify(errors, null, 1));
      process.exit(1);
    }
  },
  (e) => {
    console.error(e);
    process.exit(2);
  },
);
