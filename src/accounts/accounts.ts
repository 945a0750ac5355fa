/** The built-in account that owns everything while ACCESS=open; sql/001_accounts.sql creates it. */
export const PUBLIC_ACCOUNT = "00000000-0000-8000-8000-000000000000";
