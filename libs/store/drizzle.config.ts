/** For `drizzle-kit generate`, which writes libs/store/migrations from the schema. Run in libs/store. */
export default {
  dialect: "postgresql",
  schema: [
    "./src/schema/columns.ts",
    "./src/schema/drills.ts",
    "./src/schema/resources.ts",
    "./src/schema/machinery.ts",
    "./src/schema/placement.ts",
    "./src/schema/upgrades.ts",
  ],
  out: "./migrations",
};
