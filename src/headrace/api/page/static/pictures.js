// Pictures that were made here, kept in this browser; in memory alone where it keeps nothing.

const NAME = "headrace";
const MOST = 500;
let opened = null;

function open() {
  opened ??= new Promise((resolve) => {
    let asked;
    try {
      asked = indexedDB.open(NAME, 1);
    } catch {
      resolve(null);
      return;
    }
    asked.onupgradeneeded = () => asked.result.createObjectStore("pictures", { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = asked.onblocked = () => resolve(null);
  });
  return opened;
}

async function within(mode, work) {
  const database = await open();
  if (!database) return null;
  return new Promise((resolve) => {
    const change = database.transaction("pictures", mode);
    const asked = work(change.objectStore("pictures"));
    change.oncomplete = () => resolve(asked?.result ?? null);
    change.onerror = change.onabort = () => resolve(null);
  });
}

/** All that are kept, the newest first. */
export async function kept() {
  const found = (await within("readonly", (store) => store.getAll())) ?? [];
  found.sort((one, other) => other.created - one.created);
  for (const old of found.splice(MOST)) forget(old.id);
  return found;
}

/** Keeps {id, created, blob, request, settings}. */
export const keep = (picture) => within("readwrite", (store) => store.put(picture));
export const forget = (id) => within("readwrite", (store) => store.delete(id));
export const forgetAll = () => within("readwrite", (store) => store.clear());
