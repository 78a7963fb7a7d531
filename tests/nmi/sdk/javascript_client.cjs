// Asks for tokens with @azure/identity as it is, one credential for each row; waits between tries are counted, not lived
// through. Rows as JSON on standard input: [{"row", "resource", "by", "id"}]; "by" is how the identity is named (client_id,
// object_id, resource_id), "default" for DefaultAzureCredential, or nothing. One JSON line for each comes back.
const { AsyncLocalStorage } = require("node:async_hooks");
const { DefaultAzureCredential, ManagedIdentityCredential } = require("@azure/identity");
const later = globalThis.setTimeout;
const rowOf = new AsyncLocalStorage();
globalThis.setTimeout = (work, milliseconds, ...more) => {
  const row = rowOf.getStore();
  if (row && milliseconds >= 400 && milliseconds < 100000) {
    row.waited += milliseconds / 1000;
    return later(work, 1, ...more);
  }
  return later(work, milliseconds, ...more);
};

const names = { client_id: "clientId", object_id: "objectId", resource_id: "resourceId" };
function credentialFor(by, id) {
  if (by === "default") return new DefaultAzureCredential();
  return by ? new ManagedIdentityCredential({ [names[by]]: id }) : new ManagedIdentityCredential();
}

async function ask({ row, resource, by, id }) {
  const found = { row, outcome: "", waited: 0, words: "" };
  return rowOf.run(found, async () => {
    try {
      found.words = (await credentialFor(by, id).getToken(`${resource}/.default`)).token;
      found.outcome = "token";
    } catch (error) {
      found.outcome = error.name;
      found.words = error.message;
    }
    return found;
  });
}

(async () => {
  const rows = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  for (const found of await Promise.all(rows.map(ask))) console.log(JSON.stringify(found));
})();
